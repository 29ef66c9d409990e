"""live_masks(): which parameters are on a live path from input to output, element by element."""

from typing import Any

from torch import Tensor, nn

from capacity.effective import live_elements
from capacity.inputs import example_input
from capacity.layers import RULES
from capacity.passes import device_of, layers_of, measurable_copy


def live_masks(model: nn.Module, input_size: Any) -> dict[str, Tensor]:
    """For each parameter by its full name, True where it is not zero and on a live path.

    A path is live where no weight on it is zero; a parameter that is on none can go, and only constants
    change that biases pass on. What `measure(..., effective=True)` counts.

    Parameters
    ----------
    input_size: as for `measure`

    Raises InputError where `measure(..., effective=True)` does.

    >>> model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False))
    >>> _ = model[1].weight.data.copy_(model[1].weight.new_tensor([[0.0, 1.0]]))
    >>> live_masks(model, (3,))["0.weight"].any(1).tolist()
    [False, True]
    """
    hollow = measurable_copy(model, RULES, device="meta")
    layers = layers_of(hollow, RULES, lambda name, parameter: True)
    real = measurable_copy(model, RULES)
    found = live_elements(real, layers, example_input(real, input_size, device=device_of(real)))
    return {f"{layer}.{key}" if layer else key: mask for (layer, key), mask in found.items()}
