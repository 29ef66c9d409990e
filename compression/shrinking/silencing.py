"""Units that emit nothing: batch norms made to pass none of them on, and the groups of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import clone, fold_masks, plain_copy
from capacity.inputs import example_input, require_weights, taking
from capacity.live import used_masks
from compression._moved import keep_old_names
from compression.masks import Masks, apply_masks, living_units, masks_of
from compression.shrinking.coupling import following, graph_of, units_of
from compression.verification import outputs, probes, relative_difference, require_telling, tolerance


@torch.random.fork_rng()  # which networks that draw in evaluation mode would move on
def mask_dead_norm_channels(model: nn.Module, input_size: Any) -> nn.Module:
    """A copy whose batch norms pass nothing on for channels that are masked in the layer before them.

    After `prune(..., unit="neuron")` a batch norm still adds its shift to a masked channel, which keeps the
    channel alive. Here the scale and shift of such channels are masked too; where a norm is fed by several
    layers (a norm behind a shortcut), a channel is silenced only if all of them mask it. Retrain after it,
    then `shrink` removes the channels.
    """
    require_weights(model)
    copied = clone(model)
    masks = masks_of(copied)
    runs = fold_masks(clone(model)).eval()
    silent: Masks = {}
    for name, module in runs.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            mask = masks.get(f"{name}.weight" if name else "weight")
            alive = None if mask is None else living_units(mask)
            module.register_forward_hook(_dye(alive, -1 if isinstance(module, nn.Linear) else 1))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            module.register_forward_pre_hook(_note_silent(name, silent))
    args, kwargs = example_input(runs, input_size, device=str(next(runs.parameters()).device))
    with torch.no_grad():
        runs(*args, **kwargs)
    dead = {name: mask for name, mask in silent.items() if not bool(mask.all())}
    return apply_masks(copied, dead, keep_dropped=False)


def _dye(alive: Tensor | None, dimension: int) -> Any:
    """A hook that turns a layer's output into NaN where its units are alive and 0 where they are masked."""

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        dyed = torch.full_like(output, torch.nan)
        return dyed if alive is None else dyed.index_fill_(dimension, (~alive).nonzero().flatten(), 0.0)

    return hook


def _note_silent(name: str, silent: Masks) -> Any:
    """A hook that masks scale and shift of channels of a batch norm whose input is zero everywhere."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        alive = (inputs[0] != 0).transpose(0, 1).flatten(1).any(1)  # NaN is not 0
        for key in ("weight", "bias"):
            silent[f"{name}.{key}"] = alive | silent.get(f"{name}.{key}", torch.zeros_like(alive))

    return hook


def silent_groups(model: nn.Module, example: Any, layers: Sequence[nn.Module]) -> Iterator[Any]:
    """torch-pruning's groups of units whose weights and bias are zero in every coupled layer.

    A group holds until the next is asked for; it is removed in between, or left.
    """
    import torch_pruning as tp

    graph = graph_of(model, example)
    for name in units_of(model):
        layer = model.get_submodule(name)
        silent = _silent(layer)
        if layer in layers or layer not in graph.module2node or getattr(layer, "groups", 1) > 1 or not silent:
            continue
        linear = isinstance(layer, nn.Linear)
        function = tp.prune_linear_out_channels if linear else tp.prune_conv_out_channels
        with following(f"the units coupled to {name!r}"):
            silent = _silent_together(graph.get_pruning_group(layer, function, idxs=silent), silent)
            group = graph.get_pruning_group(layer, function, idxs=silent) if silent else None
            possible = group is not None and graph.check_pruning_group(group)
        if possible:
            yield group


def _silent_together(group: Any, silent: list[int]) -> list[int]:
    """Those of the silent units whose coupled units, in layers beside and normalizations behind, are too."""
    together = set(range(len(silent)))
    for dependency, places in group:
        weight = getattr(dependency.layer, "weight", None)
        if isinstance(weight, Tensor) and "out_channels" in dependency.pruning_fn.__name__:
            quiet = set(_silent(dependency.layer))
            together = {k for k in together if len(places) == len(silent) and places[k] in quiet}
    return [silent[k] for k in sorted(together)]


def _silent(layer: Any) -> list[int]:
    """Units that emit zero whatever comes in; of a normalization, channels with zero scale and shift."""
    weight, bias = layer.weight, getattr(layer, "bias", None)
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        weight = weight.transpose(0, 1)
    quiet = _tiny(weight).flatten(1).all(1) if weight.dim() > 1 else _tiny(weight)
    if bias is not None:
        quiet &= _tiny(bias)
    return [int(place) for place in quiet.nonzero().flatten()]


def _tiny(weight: Tensor) -> Tensor:
    """Where a weight is zero or subnormal in single precision, which costs time and carries nothing."""
    return weight.detach().abs() < torch.finfo(torch.float32).tiny


def zero_dead_parameters(model: nn.Module, input_size: Any) -> nn.Module:
    """A copy, masks and the like folded, in which parameters that pass nothing on are zero; outputs stay.

    Zero are those on no live path, except what passes on a constant which is not zero: the bias of a unit
    that sees no data, and the weights that see this unit. Outputs are compared on the example and on noise of
    several magnitudes; parameters at which they would differ stay.

    Parameters
    ----------
    input_size: as for `capacity.measure`

    Raises InputError where `measure(..., effective=True)` does.
    """
    require_weights(model)
    copied = plain_copy(model)
    inputs = probes(copied, input_size)
    with taking(copied, input_size):
        expected = outputs(copied, inputs)
    require_telling(expected)
    parameters = dict(copied.named_parameters())
    while True:  # a weight that is gone can leave more without use
        used = used_masks(copied, input_size)
        idle = {
            name: elements
            for name, parameter in parameters.items()
            if name in used and bool((elements := (parameter != 0) & ~used[name]).any())
        }
        if not idle or not _zero_unseen(copied, idle, lambda: _same(copied, inputs, expected)):
            return copied


@torch.no_grad()
def _zero_unseen(model: nn.Module, idle: Mapping[str, Tensor], same: Callable[[], bool]) -> bool:
    """Zero these elements of parameters where outputs stay the same, in place; whether any were."""
    parameters = dict(model.named_parameters())
    held = {name: parameters[name].clone() for name in idle}
    for name, elements in idle.items():
        parameters[name].masked_fill_(elements, 0)
    if same():
        return True
    for name in idle:
        parameters[name].copy_(held[name])
    zeroed = False
    for name, elements in idle.items():
        parameters[name].masked_fill_(elements, 0)
        if same():
            zeroed = True
        else:
            parameters[name].copy_(held[name])
    return zeroed


def _same(model: nn.Module, inputs: Sequence[Any], expected: Sequence[Sequence[Tensor]]) -> bool:
    """Whether outputs differ by no more than the order of additions explains."""
    return relative_difference(expected, outputs(model, inputs)) <= tolerance(model) / 100


keep_old_names(__name__)
