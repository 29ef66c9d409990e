"""Which units go together, found by what responds to them: for networks whose graph cannot be followed.

Every dense and convolutional layer emits random numbers in place of its outputs. Other numbers from some of
its units show at the inputs of the layers behind, and nowhere further. The units that change are chosen by
the bits of their number, so that a few passes tell which unit each input channel hangs on, whatever lies
between; channels that hang on several units (behind a layer norm, in attention's scores) belong to none.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compression.criteria import Criterion, Sampler
from compression.dataflow import tensors_of

CONVOLUTION = nn.modules.conv._ConvNd
NORM = nn.modules.batchnorm._BatchNorm
Pass = tuple[dict[str, Tensor], list[Tensor]]  # inputs of every layer, and outputs of the model
Steps = list[tuple["Step", list[list[int]]]]  # with the places of every unit


@dataclass(frozen=True)
class Step:
    """One layer of a group, and the function that takes units from it."""

    module: nn.Module
    handler: Callable[[nn.Module, Sequence[int]], Any]

    @property
    def target(self) -> "Step":
        """What holds the layer, as a node of torch-pruning's graph does."""
        return self

    def scores(self, criterion: Criterion | None) -> Tensor:
        """What a criterion (by default squared weights) gives the places of this step."""
        weight = self.module.get_parameter("weight").detach()
        written = "out_channels" in self.handler.__name__
        if isinstance(self.module, nn.modules.conv._ConvTransposeNd) == written:
            weight = weight.transpose(0, 1)
        if isinstance(criterion, Sampler):
            return torch.from_numpy(criterion.choose(len(weight), len(weight)).argsort()).double()
        found = weight.square() if criterion is None else criterion(weight)
        return found.flatten(1).sum(1).double()


class Coupled(list[tuple[Step, list[int]]]):
    """Steps of one removal, each with the places that its layer loses."""

    def prune(self) -> None:
        """Remove the places, in place."""
        for step, places in self:
            step.handler(step.module, places)


class Responses:
    """What every layer's input channels hang on: `units[name]` by channel, -1 none, -2 several."""

    def __init__(self, model: nn.Module, args: Any, kwargs: Any, locked: Collection[str]) -> None:
        self.model, self.args, self.kwargs, self.locked = model, args, kwargs, set(locked)
        self.layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | CONVOLUTION | NORM)
        }
        self.emitted: dict[str, tuple[Tensor, Tensor]] = {}
        nothing = self._pass({})
        widths = {name: pair[0].shape[_axis(self.layers[name])] for name, pair in self.emitted.items()}
        self.reached = {
            name: self._changed(nothing, {name: torch.ones(width, dtype=torch.bool)})
            for name, width in widths.items()
            if name not in locked and not _grouped(self.layers[name])
        }
        self.units = self._decoded(nothing, widths)

    def _decoded(self, nothing: Pass, widths: Mapping[str, int]) -> dict[str, Tensor]:
        found = {
            name: torch.full((_channels(seen, self.layers[name]),), -1) for name, seen in nothing[0].items()
        }
        for bit in range(max(widths.values(), default=1).bit_length()):
            ones = {name: (torch.arange(width) >> bit) % 2 == 1 for name, width in widths.items()}
            zeros = {name: ~units for name, units in ones.items()}
            one, zero = self._changed(nothing, ones), self._changed(nothing, zeros)
            for name, units in found.items():
                high, low = (hit.get(name, torch.zeros(len(units), dtype=torch.bool)) for hit in (one, zero))
                number = torch.where(high, units.clamp(min=0) | (1 << bit), units.clamp(min=0))
                found[name] = torch.where(high | low, number, units)
                found[name][(high & low) | (units == -2)] = -2
        return found

    def _changed(self, nothing: Pass, units: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Which input channels of which layers change with these units; under "" any output of the model."""
        seen, results = self._pass(units)
        changed = {
            name: _by_channel(seen[name] != before, self.layers[name])
            for name, before in nothing[0].items()
            if name in seen and seen[name].shape == before.shape
        }
        same = len(results) == len(nothing[1]) and all(
            torch.equal(a, b) for a, b in zip(results, nothing[1], strict=True)
        )
        return {name: hit for name, hit in changed.items() if bool(hit.any())} | (
            {} if same else {"": torch.ones(1, dtype=torch.bool)}
        )

    def _pass(self, units: Mapping[str, Tensor]) -> Pass:
        seen: dict[str, Tensor] = {}
        handles = []
        for name, module in self.layers.items():
            handles.append(module.register_forward_pre_hook(_note(name, seen)))
            if not isinstance(module, NORM) and not _by_itself(module):
                handles.append(module.register_forward_hook(self._emit(name, units.get(name))))
        try:
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(0)
                return seen, [t.clone() for t in tensors_of(self.model(*self.args, **self.kwargs))]
        finally:
            for handle in handles:
                handle.remove()

    def _emit(self, name: str, units: Tensor | None) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            if name not in self.emitted:
                self.emitted[name] = (torch.rand_like(output) + 0.1, torch.rand_like(output) + 0.1)
            plain, other = self.emitted[name]
            if units is None or plain.shape != output.shape:
                return plain.clone() if plain.shape == output.shape else output
            shape = [1] * output.dim()
            shape[_axis(module)] = -1
            return torch.where(units.reshape(shape), other, plain)

        return hook


def _note(name: str, seen: dict[str, Tensor]) -> Any:
    return lambda module, args: seen.update({name: args[0].clone()}) if args else None


def _axis(module: nn.Module) -> int:
    if isinstance(module, CONVOLUTION):
        return -1 - len(module.kernel_size)
    return -1 if isinstance(module, nn.Linear) else 1


def _channels(tensor: Tensor, module: nn.Module) -> int:
    return int(tensor.shape[_axis(module)])


def _by_channel(changed: Tensor, module: nn.Module) -> Tensor:
    return changed.movedim(_axis(module), 0).flatten(1).any(1)


def _by_itself(module: nn.Module) -> bool:
    """Whether every channel is convolved by itself: what goes in at a channel comes out there."""
    return isinstance(module, CONVOLUTION) and module.groups == module.in_channels == module.out_channels > 1


def _grouped(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTION) and module.groups > 1


def responding_groups(
    responses: Responses, amount: float, criterion: Criterion | None = None
) -> Iterator[Coupled]:
    """Of every group of units that go together, the share of lowest scores."""
    left = dict(responses.reached)
    while left:
        names = {next(iter(left))}
        behind = set(responses.reached[min(names)])
        while more := {n for n, hit in left.items() if n not in names and behind & hit.keys() - {""}}:
            names |= more
            behind |= {name for one in more for name in responses.reached[one]}
        for name in names:
            del left[name]
        if behind and not any(_unclear(responses, name) for name in behind):
            steps = _steps(responses, names, behind)
            total = sum(
                (torch.stack([scores[p].sum() for p in places]) for step, places in steps
                 if (scores := step.scores(criterion) if _weighs(step) else None) is not None),
                torch.zeros(len(steps[0][1]), dtype=torch.double),
            )  # fmt: skip
            gone = sorted(total.argsort()[: int(amount * len(total))].tolist())
            chosen = Coupled((step, sorted(p for u in gone for p in places[u])) for step, places in steps)
            if gone:
                yield Coupled((step, places) for step, places in chosen if places)


def _weighs(step: Step) -> bool:
    return isinstance(step.module, nn.Linear | CONVOLUTION)


def _unclear(responses: Responses, name: str) -> bool:
    """Whether units cannot go because of what this layer sees of them; "" is the output of the model."""
    if name == "" or (
        name in responses.locked and not isinstance(responses.layers[name], nn.Linear | CONVOLUTION)
    ):
        return True
    layer = responses.layers[name]
    whole = isinstance(layer, CONVOLUTION) and layer.groups > 1 and not _by_itself(layer)
    return whole or bool((responses.units[name] == -2).any())


def _steps(responses: Responses, names: Collection[str], behind: Collection[str]) -> Steps:
    import torch_pruning as tp

    layers = responses.layers
    widths = {name: responses.emitted[name][0].shape[_axis(layers[name])] for name in sorted(names)}
    most = max(widths.values())
    steps: Steps = []
    for name, width in widths.items():
        dense = isinstance(layers[name], nn.Linear)
        out = tp.prune_linear_out_channels if dense else tp.prune_conv_out_channels
        steps.append((Step(layers[name], out), [[u] if u < width else [] for u in range(most)]))
    for name in sorted(behind):
        places: list[list[int]] = [[] for _ in range(most)]
        for place, unit in enumerate(responses.units[name].tolist()):
            if 0 <= unit < most:
                places[unit].append(place)
        steps.append((Step(layers[name], _reader(layers[name])), places))
    return steps


def _reader(layer: nn.Module) -> Any:
    """What takes input channels from a layer."""
    import torch_pruning as tp

    if isinstance(layer, NORM):
        return tp.prune_batchnorm_out_channels
    if isinstance(layer, nn.Linear):
        return tp.prune_linear_in_channels
    return tp.prune_depthwise_conv_out_channels if _by_itself(layer) else tp.prune_conv_in_channels
