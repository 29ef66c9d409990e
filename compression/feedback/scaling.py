"""scale_channels(): weights of large inputs are made larger before rounding; the function stays as it is.

What a layer reads is divided by a scale of each channel where it is made, in the norm or layer before, and
the layer's weights are multiplied by it: the same function, but weights of channels with large inputs lie on
relatively finer grids. Which layer can be divided is found out by trying: the outputs must stay.

Reference: Lin et al. 2023, "AWQ: Activation-aware Weight Quantization", arXiv:2306.00978, section 3.2, with
the root mean square of the inputs for their mean magnitude.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.columns import KEY, Column
from capacity.inputs import tensors_in
from capacity.kernels import single_precision
from capacity.tables import Table, Tabular
from compression.calibration import inputs_of
from compression.feedback.grids import GRID, GRID_CHECKS, GridOptions
from compression.feedback.hessians import Calibration, Walk, watch
from compression.feedback.layers import CONVOLUTIONS, exact_matrices, matrices_of, weight_of
from compression.feedback.rounding import check_bits, check_grid, grid_for
from compression.feedback.sweeping import output_error
from compression.forms import run
from compression.options import with_options
from compression.targets import Choice, Target, is_transposed
from compression.verification import relative_difference, tolerance

EXPONENTS = tuple(k / 20 for k in range(20))
TRIES = 4  # layers before one that are tried
GROUPED = "inputs of convolutions with groups are not scaled"
UNFIT = "no layer before it can be divided so that the outputs stay"


@dataclass(frozen=True)
class ScaledChannels:
    """Layers that read the same, what was divided for them, and by which power of the inputs' size.

    Errors are sums over the readers of ‖Wx - Ŵx‖² / ‖Wx‖² where each weight is rounded to the nearest.
    """

    readers: tuple[str, ...]
    source: str
    exponent: float
    plain_error: float
    scaled_error: float


@dataclass(frozen=True)
class ScaleResult(Tabular):
    """A copy of the model that computes the same; `left` are layers whose inputs stay, and why."""

    model: nn.Module
    groups: tuple[ScaledChannels, ...]
    left: Mapping[str, str]

    def table(self) -> Table:
        """A row for each group of layers that read the same."""
        columns = (
            Column("layers", "layers", importance=KEY),
            Column("source", "divided in", importance=4),
            Column("exponent", "exponent", style=".2f", importance=6),
            Column("plain_error", "rounded as it was", "%", factor=100, style=".3g", importance=5),
            Column("scaled_error", "rounded scaled", "%", factor=100, style=".3g", importance=7),
        )
        rows = [vars(group) | {"layers": ", ".join(group.readers)} for group in self.groups]
        return Table(columns, rows, "the same function, with less error where rounded", label="tab:scaling")


@checks.arguments(bits=checks.count, **GRID_CHECKS)
@with_options(GRID)
def scale_channels(
    model: nn.Module,
    batches: Calibration | Iterable[Any],
    *,
    bits: int = 4,
    layers: Sequence[str] | None = None,
    **grid: Unpack[GridOptions],
) -> ScaleResult:
    """A copy of the model with the same function, whose weights err less when they are rounded.

    Parameters
    ----------
    batches: as for `round_with_feedback`, which may follow
    bits, group_size, asymmetric: of the rounding to come
    layers: whose inputs to scale; by default those of all dense layers and convolutions that are called

    Of twenty powers of the inputs' size the one is taken at which rounding to the nearest errs least; with
    none, layers stay. After each step the outputs on the first batch are compared, and what would change them
    is taken back.

    Raises InputError for bits that cannot be, unknown layers, and weights or inputs that are not finite.

    >>> model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
    >>> with torch.no_grad():
    ...     _ = model[0].weight.copy_(torch.tensor([9.0, 1.0, 1.0, 1.0]))
    >>> scaled = scale_channels(model, [torch.randn(32, 4)], bits=3)
    >>> scaled.groups[0].source, scaled.groups[0].scaled_error <= scaled.groups[0].plain_error
    ('0', True)
    """
    check_grid(grid)
    check_bits("bits", bits)
    walk = Walk.on_copy(model, batches, layers)
    rehearsal = _Rehearsal(walk.model, next(iter(inputs_of(walk.model, walk.calibration.batches))))
    scaled, left = [], dict(walk.left)
    for readers, candidates in _groups(walk):
        source = next((s for s in candidates if rehearsal.stays(Fold(s, readers), _trial(readers[0]))), None)
        if source is None:
            left |= {reader.name: UNFIT if _ungrouped(reader) else GROUPED for reader in readers}
            continue
        scaled.append(_scaled(walk, rehearsal, Fold(source, readers), bits, grid))
    return ScaleResult(walk.model, tuple(scaled), left)


@dataclass(frozen=True)
class Source:
    """A layer whose outputs can be divided channel by channel in its own weights."""

    name: str
    module: nn.Module

    @property
    def channels(self) -> int:
        """How many it puts out."""
        weight = self.module._parameters["weight"]
        assert weight is not None
        return int(weight.shape[-1] if is_transposed(self.module) else weight.shape[0])

    def divide(self, scales: Tensor) -> None:
        """In place: weights and bias of each channel over its scale."""
        for key in ("weight", "bias"):
            held = self.module._parameters.get(key)
            if held is not None:
                last = is_transposed(self.module) or held.dim() == 1
                shape = (-1,) if last else (-1, *[1] * (held.dim() - 1))
                held.data.div_(scales.to(held).view(shape))


@dataclass(frozen=True)
class Fold:
    """A source, and the layers that read what it makes."""

    source: Source
    readers: Sequence[Target]

    @contextmanager
    def applied(self, scales: Tensor) -> Iterator[Callable[[], None]]:
        """The source divided and the readers multiplied by scales, (channels,); undone unless it is kept."""
        final = False

        def keep() -> None:
            nonlocal final
            final = True

        changed = [self.source.module, *(reader.module for reader in self.readers)]
        before = [(p, p.detach().clone()) for module in changed for p in module.parameters(recurse=False)]
        try:
            self.source.divide(scales)
            for reader in self.readers:
                weight = matrices_of(reader.module, reader.value().detach().clone())
                scaled = weight * _by_column(reader, scales).to(weight)
                reader.value().data.copy_(weight_of(reader.module, scaled, reader.shape))
            yield keep
        finally:
            if not final:
                for parameter, value in before:
                    parameter.data.copy_(value)


class _Rehearsal:
    """Whether the outputs on a batch stay those of the whole network."""

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self.model, self.inputs, self.most = model, inputs, tolerance(model)
        self.expected = self._outputs()

    def _outputs(self) -> list[Tensor]:
        with torch.no_grad(), single_precision():
            return [tensor.clone() for tensor in tensors_in(run(self.model, self.inputs))]

    def stays(self, fold: Fold, scales: Tensor, *, for_good: bool = False) -> bool:
        """Whether they do under a fold, which is undone unless it is for good and they do."""
        with fold.applied(scales) as keep:
            same = relative_difference([self.expected], [self._outputs()]) <= self.most
            if same and for_good:
                keep()
        return same


def _trial(reader: Target) -> Tensor:
    """Scales between a half and two, by which a fold that changes the outputs is found out."""
    count = _channels(reader)
    return 0.5 * 4 ** torch.rand(count, generator=torch.Generator().manual_seed(count))


def _channels(reader: Target) -> int:
    """Channels that a layer reads."""
    return int(reader.shape[0] if is_transposed(reader.module) else reader.shape[1])


def _by_column(reader: Target, channels: Tensor) -> Tensor:
    """What belongs to each channel, for each column of the layer's matrix."""
    return channels.repeat_interleave(reader.elements // (reader.shape[0] * reader.shape[1]))


def _groups(walk: Walk) -> Iterator[tuple[list[Target], list[Source]]]:
    """Layers that are given the same tensor, and those before that may be divided, nearest first."""
    made: list[tuple[Source, Tensor]] = []
    given: dict[int, tuple[Tensor, list[Target], int]] = {}

    def read(name: str, _: nn.Module, tensor: Tensor) -> None:
        target = walk.choice.chosen[name]
        readers = given.setdefault(id(tensor), (tensor, [], len(made)))[1]
        if all(target is not one for entry in given.values() for one in entry[1]):
            readers.append(target)

    with ExitStack() as hooks:
        for name, module in walk.model.named_modules():
            if _divisible(module):
                source = Source(name, module)
                hooks.enter_context(
                    module.register_forward_hook(
                        lambda _, args, output, source=source: made.append((source, output))
                    )
                )
        watch(walk.model, walk.calibration.batches, walk.choice.chosen, read, most=1)
    for tensor, readers, before in given.values():
        if not readers:  # seen before, with another tensor
            continue
        exact = [source for source, output in made if output is tensor]
        nearest = [source for source, _ in reversed(made[:before])]
        fitting = [source for source in exact or nearest if source.channels == _channels(readers[0])]
        yield readers, fitting[:TRIES] if all(map(_ungrouped, readers)) else []


def _ungrouped(reader: Target) -> bool:
    return getattr(reader.module, "groups", 1) == 1


def _divisible(module: nn.Module) -> bool:
    """Whether dividing its weight and bias by channel may divide what it puts out."""
    weight = module._parameters.get("weight")
    if weight is None or not weight.is_floating_point():
        return False
    return weight.dim() == 1 or isinstance(module, (nn.Linear, *CONVOLUTIONS)) or is_transposed(module)


def _scaled(walk: Walk, rehearsal: _Rehearsal, fold: Fold, bits: int, grid: GridOptions) -> ScaledChannels:
    """Fold in the power of the inputs' size at which rounding errs least."""
    part = Walk(walk.model, walk.calibration, Choice({r.name: r for r in fold.readers}, {}))
    seen = [(target, exact_matrices(target), hessian) for target, hessian in part.steps()]
    kernel = seen[0][1].shape[2] // _channels(seen[0][0])
    sizes = seen[0][2].diagonal(dim1=1, dim2=2)[0].view(-1, kernel).mean(1).sqrt()
    errors = {
        exponent: sum(_error(*one, powers(sizes, exponent), (bits, grid)) for one in seen)
        for exponent in EXPONENTS
    }
    best = min(errors, key=errors.__getitem__)
    if best and not rehearsal.stays(fold, powers(sizes, best), for_good=True):
        best = 0.0
    names = tuple(reader.name for reader in fold.readers)
    return ScaledChannels(names, fold.source.name, best, errors[0.0], errors[best])


def powers(sizes: Tensor, exponent: float) -> Tensor:
    """A power of each channel's size, their range about one; channels that are nearly zero count as small.

    >>> powers(torch.tensor([4.0, 1.0, 1.0]), 0.5).tolist()
    [1.4142135381698608, 0.7071067690849304, 0.7071067690849304]
    """
    scales = sizes.clamp(min=1e-4 * max(float(sizes.max()), 1e-12)) ** exponent
    return scales / (scales.max() * scales.min()).sqrt()


def _error(
    target: Target, weights: Tensor, hessian: Tensor, scales: Tensor, rounding: tuple[int, GridOptions]
) -> float:
    """‖Wx - Ŵx‖² / ‖Wx‖² where the weights, times scales, are rounded to the nearest."""
    columns = _by_column(target, scales)
    energy = hessian.diagonal(dim1=1, dim2=2) / columns.square()
    grid = grid_for(target, weights * columns, energy, *rounding)
    apart = weights - grid.nearest(weights * columns) / columns
    size = float(output_error(weights, hessian).sum()) or 1.0
    return float(output_error(apart, hessian).sum()) / size
