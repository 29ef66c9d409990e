"""shrink(): physically remove neurons and channels, so that memory and time fall too.

Which layers must lose a channel together is the business of `compression.shrinking.coupling`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from capacity import checks
from capacity.attention import unpack_attention
from capacity.cloning import clone, plain_copy
from capacity.columns import KEY, Column, percent
from capacity.errors import InputError, brief
from capacity.inputs import first_line, require_weights
from capacity.tables import Table, Tabular
from compression.criteria import Criterion, observed, require_criterion
from compression.shrinking.coupling import (
    Importance,
    fixed_layers,
    following,
    group_of,
    groups_of,
    locked_layers,
    pruner_of,
    ungroupable,
    units_of,
)
from compression.shrinking.deadlines import NoEnd, Stopwatch
from compression.shrinking.emission import Axis
from compression.shrinking.removal import Removal, reasons
from compression.shrinking.silencing import silent_groups
from compression.shrinking.slicing import (
    Slicing,
    lowest,
    responding_families,
    scores_of,
    shrunk_one_by_one,
    unrounded,
)

GRAPH_SECONDS = 25  # of work on torch-pruning's graph after which its groups are not tried one by one
SECONDS = 45  # of work after which nothing more is tried; something may have been removed by then
LOST_NONE = (
    "it is coupled to a layer of one unit or to a grouped convolution, which would lose whole groups, or has "
    "too few units"
)


@dataclass(frozen=True)
class ShrunkLayer:
    """Units of one layer before and after."""

    name: str
    before: int
    after: int


COLUMNS = (
    Column("name", "layer", importance=KEY),
    Column("before", "units before", style=",", importance=2),
    Column("after", "after", style=",", importance=3),
)


@dataclass(frozen=True)
class ShrinkResult(Tabular):
    """A smaller model. `requested` is a fraction of channels (or one for each layer), or None for what
    masks silenced.

    `largest_difference` is how far its outputs lie from the masked model's on the example and on noise of
    several magnitudes, relative to their largest value; None where channels were removed that were not
    silent. `left_out` names layers that keep units they were to lose, and why.
    """

    model: nn.Module
    requested: float | Mapping[str, float] | None
    parameters_before: int
    parameters_after: int
    layers: tuple[ShrunkLayer, ...]
    largest_difference: float | None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def achieved(self) -> float:
        """The fraction of channels removed, over all layers that could lose some."""
        before = sum(layer.before for layer in self.layers)
        return 1 - sum(layer.after for layer in self.layers) / before if before else 0.0

    def table(self) -> Table:
        """A row per layer: units before and after."""
        left = self.parameters_after / self.parameters_before
        title = (
            f"{self.parameters_before:,} -> {self.parameters_after:,} parameters ({percent(left, 1)} left)"
        )
        if self.largest_difference is not None:
            title += f", outputs differ by at most {self.largest_difference:.2g}"
        notes = [f"left whole: {reasons(self.left_out)}"] if self.left_out else []
        return Table(COLUMNS, [vars(layer) for layer in self.layers], title, notes, label="tab:shrink")


@checks.arguments(criterion=checks.optional(require_criterion), keep=checks.names, round_to=checks.count)
@torch.random.fork_rng()  # which networks that draw in evaluation mode would move on
def shrink(
    model: nn.Module,
    input_size: Any,
    *,
    amount: float | Mapping[str, float] | None = None,
    criterion: Criterion | None = None,
    keep: Sequence[str] = (),
    round_to: int = 1,
) -> ShrinkResult:
    """A copy of the model with neurons and channels removed; the model itself is not changed.

    Parameters
    ----------
    input_size: as for `capacity.measure`
    amount: the fraction of the channels of every group of coupled layers to remove, and of the heads of
        every attention; or a fraction for each layer named, which holds for all layers coupled to it. None
        removes what is silent already, after `prune(..., unit="neuron")` and `mask_dead_norm_channels`
    criterion: whose lowest scores go first, summed over all coupled layers, those that an observer of
        `compression.calibration` did not see left out; by default torch-pruning's group magnitude (L2)
    keep: names of layers that keep all their units; the output layers always do
    round_to: what kernels like the numbers of units to be multiples of, 8 for example. Never more units go
        than asked for: a layer for which no such number lies in between keeps its units. Layers whose number
        is none all the same are named in `left_out`

    The outcome is compared with the model on the example and on noise: where silent units went, the outputs
    are equal; else they equal those of the model in which exactly the removed units are cut out of every
    layer. Groups of coupled layers for which that does not hold keep their units (`left_out`). All outputs
    keep their shapes, in training too.

    Attention in nn.MultiheadAttention is unpacked into dense layers, because it cannot lose a head as it is.

    Raises InputError for an amount outside (0, 1), unknown layers, layers that cannot lose units (the
    output, depthwise convolutions), a model whose layers cannot be followed in a minute, one that is too
    large for the memory, and a model of which nothing can be removed without another change.
    """
    _check(amount)
    checks.integer("round_to", round_to)
    if round_to < 1:
        raise InputError(f"round_to must be a whole number of at least 1, found {round_to}")
    if round_to > 1 and amount is None:
        raise InputError("round_to needs an amount: without one exactly the silent units go")
    require_weights(model)
    copied = unpack_attention(plain_copy(model).eval())
    if not units_of(copied):
        raise InputError("the model has no dense or convolutional layer, so there are no units to remove")
    if criterion is not None and amount is not None:
        criterion = observed(criterion, copied)
    request = _Request(input_size, amount, criterion, round_to)
    with _enough_memory():
        removal, locked, left_out = _smaller(copied, request, keep)
        difference = removal.verified()
    before, after = removal.sizes()
    layers = tuple(ShrunkLayer(name, before[name], after[name]) for name in before if name not in locked)
    small = removal.finish()
    parameters, left = (sum(p.numel() for p in m.parameters()) for m in (removal.original, small))
    silent = difference if amount is None else None
    return ShrinkResult(small.train(model.training), amount, parameters, left, layers, silent, left_out)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Within it, lack of memory becomes an InputError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(
            error
        ):
            raise
        raise InputError(
            f"memory ran out: shrinking holds four copies of the model in double precision and what a few "
            f"passes compute ({first_line(error, 120)}); a smaller input takes less"
        ) from error


def _smaller(
    model: nn.Module,
    request: "_Request",
    keep: Sequence[str],
) -> tuple[Removal, dict[str, str], dict[str, str]]:
    """What was removed by the graph, else by responses; the layers that keep their units, and those left."""
    fixed = fixed_layers(model, request.input_size, keep)
    left_out: dict[str, str] = {}
    try:
        request = replace(request, locked=locked_layers(model, request.input_size, fixed))
        return _removal(model, request, left_out), request.locked, left_out
    except InputError as error:
        if not isinstance(request.amount, float):
            raise
        responding, left = replace(request, locked=fixed), dict[str, str]()
        try:
            return _sliced(model, responding, keep, left), fixed, left
        except InputError as other:
            raise InputError(f"{error}. By what responds to its units: {other}") from None


def _sliced(model: nn.Module, request: "_Request", keep: Sequence[str], left_out: dict[str, str]) -> Slicing:
    """Components of units taken from the parameters that hold them; raises InputError if nothing goes."""
    assert isinstance(request.amount, float)
    removal = Slicing(clone(model), request.input_size)

    def locked(axis: Axis) -> bool:
        return any(axis.name == name or axis.name.startswith(f"{name}.") for name in keep)

    limit = max(SECONDS - request.watch.seconds(), SECONDS - GRAPH_SECONDS)
    chosen = []
    for family in responding_families(model, removal, request.input_size, locked, limit):
        scores = scores_of(removal, family, request.criterion)
        chosen.append((family, scores, lowest(family, scores, request.amount, request.round_to)))
    shrunk_one_by_one(removal, chosen, left_out, lambda: request.watch.seconds() > SECONDS)
    left_out |= unrounded(*removal.sizes(), request.round_to, request.amounts(removal))
    _require_less(request.amount, *removal.sizes(), request.locked, left_out)
    return removal


@dataclass(frozen=True)
class _Request:
    """What shrink was asked for, the layers that keep their units, and how long it has worked.

    `odd` are layers that torch-pruning's graph could not group, once that is known.
    """

    input_size: Any
    amount: float | Mapping[str, float] | None
    criterion: Criterion | None = None
    round_to: int = 1
    watch: Stopwatch = field(default_factory=Stopwatch)
    locked: dict[str, str] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)

    def amounts(self, removal: Removal) -> dict[str, float]:
        """The fraction that each layer was to lose."""
        if isinstance(self.amount, Mapping):
            return dict(self.amount)
        return {name: self.amount or 0.0 for name in removal.sizes()[0] if name not in self.locked}

    def groups(self, removal: Removal, refused: dict[str, str]) -> Iterator[Any]:
        """Groups of units to remove; each is removed or left before the next is asked for."""
        model, (args, kwargs) = removal.small, removal.inputs[0]
        if self.amount is None:
            yield from silent_groups(
                model, kwargs or args, [model.get_submodule(name) for name in self.locked]
            )
            return
        refused |= self.odd
        try:
            pruner = self._pruner(model, kwargs or args, {**self.odd, **self.locked}, refused)
        except NoEnd:
            raise
        except InputError:
            odd = {} if self.odd else ungroupable(model, kwargs or args)
            if not odd:
                raise
            refused |= odd
            self.odd.update(odd)
            pruner = self._pruner(model, kwargs or args, {**odd, **self.locked}, refused)
        steps = pruner.step(interactive=True)
        while True:
            with following("the units to remove"):
                group = next(steps, None)
            if group is None:
                return
            yield group

    def _pruner(
        self, model: nn.Module, example: Any, locked: Mapping[str, str], refused: dict[str, str]
    ) -> Any:
        importance = Importance(self.criterion, model, refused)
        ratios: dict[nn.Module, float] = {}
        if not isinstance(self.amount, Mapping):
            return pruner_of(model, example, self.amount or 0.0, importance, locked, self.round_to)
        even = pruner_of(model, example, 0.0, Importance(None, model, {}), locked)
        groups = groups_of(model, even, locked)
        for name, value in self.amount.items():
            group = group_of(name, model, groups, locked)
            for layer in group:
                if ratios.setdefault(layer, value) != value:
                    names = [key for key, module in model.named_modules() if module in group]
                    raise InputError(f"layers {names} lose units together: one amount for all of them")
        return pruner_of(model, example, ratios, importance, locked, self.round_to)


def _removal(model: nn.Module, request: _Request, left_out: dict[str, str]) -> Removal:
    """All at once if the network stays the same, else group by group; raises InputError if nothing goes."""
    try:
        removal = _all_at_once(model, request, left_out)
    except NoEnd:
        raise
    except InputError:
        if request.watch.seconds() > GRAPH_SECONDS:
            raise
        removal = _one_by_one(model, request, left_out)
    left_out |= unrounded(*removal.sizes(), request.round_to, request.amounts(removal))
    _require_less(request.amount, *removal.sizes(), request.locked, left_out)
    return removal


def _all_at_once(model: nn.Module, request: _Request, left_out: dict[str, str]) -> Removal:
    removal = Removal(clone(model), request.input_size, silent=request.amount is None)
    for group in request.groups(removal, left_out):
        with following("how to remove a group of units"):
            removal.apply(group)
    removal.verified()
    return removal


def _one_by_one(model: nn.Module, request: _Request, left_out: dict[str, str]) -> Removal:
    """Remove what can be removed; a group that would change the function stays, and is noted."""
    removal = Removal(clone(model), request.input_size, silent=request.amount is None)
    tried, limit = False, GRAPH_SECONDS
    try:
        for group in request.groups(removal, left_out):
            tried = True
            names = [
                name
                for name in units_of(removal.small)
                if any(
                    d.target.module is removal.small.get_submodule(name)
                    and "out_channels" in d.handler.__name__
                    for d, _ in group
                )
            ]
            try:
                if request.watch.seconds() > limit:
                    raise InputError(f"it was not tried within {limit} s, because others failed")
                with removal.undone_on_error(group):
                    with following("how to remove a group of units"):
                        removal.apply(group)
                    removal.check(quick=True)
                limit = SECONDS
            except InputError as error:
                left_out |= dict.fromkeys(names, str(error))
    except InputError:
        if not tried:
            raise
    return removal


def _require_less(
    amount: float | Mapping[str, float] | None,
    before: Mapping[str, int],
    after: Mapping[str, int],
    locked: Mapping[str, str],
    left_out: Mapping[str, str],
) -> None:
    """Raise InputError, with the reason, if nothing was removed or a layer named lost nothing."""
    for name, value in amount.items() if isinstance(amount, Mapping) else ():
        if after[name] == before[name]:
            why = left_out.get(name, LOST_NONE)
            raise InputError(
                f"layer {name!r} of {before[name]} units lost none to an amount of {value}: {why}"
            )
    if after != before:
        return
    if left_out:
        raise InputError(
            f"nothing can be removed; keep=[...] names layers to leave as they are: {reasons(left_out)}"
        )
    if amount is None:
        raise InputError(
            "no unit can be removed: none is silent (all weights and bias zero) in all layers and batch "
            "norms coupled to it; prune(..., unit='neuron') first, then mask_dead_norm_channels if there are "
            "batch norms; or give an amount"
        )
    raise InputError(
        f"nothing was removed: {amount!r} of no layer makes a whole unit, or {len(locked)} layers keep "
        f"theirs ({reasons(locked)})"
    )


def _check(amount: float | Mapping[str, float] | None) -> None:
    amounts = amount if isinstance(amount, Mapping) else {"": amount}
    for name, value in amounts.items():
        if value is not None:
            checks.number(f"amount[{name!r}]" if name else "amount", value)
        if value is not None and not 0 < value < 1:
            where = f" for layer {name!r}" if name else ""
            raise InputError(f"amount must be a fraction between 0 and 1, found {brief(value)}{where}")
