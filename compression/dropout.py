"""Neuron dropout: a fixed number of a layer's neurons, new ones each batch, silenced while training."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from capacity.errors import InputError
from compression.targets import prunable


@contextmanager
def neuron_dropout(model: nn.Module, amounts: Mapping[str, int], *, seed: int = 0) -> Iterator[None]:
    """Within it, each training batch of `model` runs with `amounts[layer]` neurons of each layer silenced.

    Their outputs are zero for the batch and the others scaled by n / (n - amount), so evaluation needs
    no correction (Srivastava et al. 2014, inverted). Gradients flow through the others: the layer learns.

    Raises InputError for unknown layers and for amounts that are not in [0, neurons - 1].
    """
    generator = torch.Generator().manual_seed(seed)
    handles = []
    for name, amount in amounts.items():
        target = next(iter(prunable(model, [name], unit="neuron").values()))
        neurons = target.units
        if target.key != "weight":
            raise InputError(f"layer {name!r}: {target.names[0]!r} is not the weight of a layer of its own")
        if not 0 <= amount < neurons:
            raise InputError(
                f"layer {name!r}: neuron dropout of {amount} needs 0 to {neurons - 1} of {neurons}"
            )
        handles.append(target.module.register_forward_hook(_silence(neurons, amount, generator)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _silence(
    neurons: int, amount: int, generator: torch.Generator
) -> Callable[[nn.Module, object, Tensor], Tensor | None]:
    """A hook that sets outputs of so many neurons to zero and scales the others."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        if not module.training or amount == 0:
            return None
        scale = torch.full((neurons,), neurons / (neurons - amount), dtype=output.dtype)
        scale[torch.randperm(neurons, generator=generator)[:amount]] = 0
        channel = 1 if isinstance(module, nn.modules.conv._ConvNd) else -1
        shape = [1] * output.dim()
        shape[channel] = neurons
        return output * scale.to(output.device).view(shape)

    return hook
