"""prune(): mask single weights or whole neurons, layer by layer or across the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from torch import nn

from capacity import checks
from capacity.cloning import clone, initialized, unwrapped
from capacity.errors import InputError, brief
from compression.amounts import Amount as Amount
from compression.amounts import plain_amounts
from compression.amounts import shown as shown
from compression.candidates import PrunedLayer as PrunedLayer
from compression.candidates import Rule, prune_group
from compression.coverage import LeftLayer as LeftLayer
from compression.coverage import PruneResult, coverage
from compression.criteria import Criterion, observed, require_criterion
from compression.masks import Masks, apply_masks, masks_of
from compression.options import with_options
from compression.targets import Choice, Target, choose, named, targets
from compression.targets import Unit as Unit

Scope = Literal["layer", "global"]


class PruneOptions(TypedDict, total=False):
    """What `prune` takes besides the criterion and the amount."""

    unit: Unit
    scope: Scope
    layers: Sequence[str] | None
    input_size: Any
    keep: int


DEFAULTS: PruneOptions = {"unit": "weight", "scope": "layer", "layers": None, "input_size": None, "keep": 1}


@checks.arguments(criterion=require_criterion)
@with_options(DEFAULTS)
def prune(
    model: nn.Module, criterion: Criterion, *, amount: Amount, **options: Unpack[PruneOptions]
) -> PruneResult:
    """A copy of the model with more of its weights or neurons masked; the model itself is not changed.

    Parameters
    ----------
    criterion: L1(), L2(), Random(), Reservoir(), one of `compression.calibration` that sees data, or any
        callable weight -> scores of the same shape; the lowest scores go first, a neuron scores the sum over
        its weights, a score of infinity stays
    amount: int, how many; float in (0, 1), which fraction of those not pruned before; or a dict that
        gives either for each layer
    unit: "weight" (elements of the weight) or "neuron" (a row or output channel, its bias included)
    scope: "layer", the amount holds for each layer; "global", for all of them together, where neurons
        compare by the mean over their weights so that wide layers are not favoured
    layers: names of layers, or of parameters; by default all matrices that multiply what comes from the
        input but the output layers, whose units are the outputs, and embeddings; `left` lists the others
    input_size: as for `capacity.measure`, to find the output layers with; by default guessed
    keep: units that every layer keeps at least; 0 lets a global amount empty layers

    Raises InputError for an amount that is 0, negative, or leaves a layer without units, for unknown
    layers, and for weights or scores that are NaN, naming the layer.

    >>> from compression.criteria import L1
    >>> result = prune(nn.Linear(4, 3), L1(), amount=1, unit="neuron", layers=[""])
    >>> result.achieved, result.density, result.achieved_of_model
    (1, 0.6666666666666666, 0.3333333333333333)
    """
    unit, scope, layers = options["unit"], options["scope"], options["layers"]
    input_size, keep = options["input_size"], options["keep"]
    model = initialized(unwrapped(model))
    requested, masks = plain_amounts(amount), masks_of(model)
    work = _work(model, requested, {"unit": unit, "scope": scope, "layers": layers, "input_size": input_size})
    rule = Rule(observed(criterion, model), unit, _usable_keep(keep))
    rows, asked = _extend(work, masks, rule)
    copied = apply_masks(clone(model), masks, keep_dropped=False)
    all_masks = masks | masks_of(copied)  # which names a mask of tied weights once
    layers_now = tuple(row for part in rows for row in part)
    counted = {row.name: row.after for row in layers_now} if unit == "weight" else {}
    masked, left = coverage(model, all_masks, work.choice, counted)
    return PruneResult(
        copied, all_masks, requested, _achieved(rows, work, requested, scope), unit, layers_now, masked, left,
        sum(asked) - sum(row.pruned for row in layers_now),
    )  # fmt: skip


@with_options(DEFAULTS)
def extend_masks(
    model: nn.Module,
    masks: Masks,
    criterion: Criterion,
    *,
    amount: Amount,
    **options: Unpack[PruneOptions],
) -> list[PrunedLayer]:
    """Drop more from `masks`, in place, by the weights of `model`, which stays as it is; see `prune`."""
    chosen = DEFAULTS | options
    work = _work(model, plain_amounts(amount), chosen)
    rule = Rule(observed(criterion, model), chosen["unit"], _usable_keep(chosen["keep"]))
    rows, _ = _extend(work, masks, rule)
    return [row for part in rows for row in part]


@dataclass(frozen=True)
class _Work:
    """Groups of layers that are pruned together, each with an amount, under the names they were asked by."""

    groups: tuple[tuple[str, Mapping[str, Target], int | float], ...]
    choice: Choice


def _work(model: nn.Module, amount: Amount, options: PruneOptions) -> _Work:
    """Which layers are to be pruned by how much."""
    unit, scope, layers = options["unit"], options["scope"], options["layers"]
    checks.word("weight", "neuron")("unit", unit)
    checks.word("layer", "global")("scope", scope)
    if isinstance(amount, Mapping):
        if layers is not None or scope != "layer":
            raise InputError("amounts per layer name the layers: leave out layers and scope")
        return _per_layer(model, amount, unit)
    choice = choose(model, layers, unit=unit, input_size=options["input_size"])
    if not choice.chosen:
        why = "".join(f"; {name!r}: {reason}" for name, (_, reason) in list(choice.left.items())[:4])
        raise InputError(
            f"the model has no dense or convolutional layer to prune besides its output layer{why}"
        )
    if scope == "global":
        return _Work((("", choice.chosen, amount),), choice)
    return _Work(tuple((name, {name: t}, amount) for name, t in choice.chosen.items()), choice)


def _per_layer(model: nn.Module, amounts: Mapping[str, int | float], unit: Unit) -> _Work:
    """Each layer named by its own amount."""
    every = targets(model)
    groups = [
        (key, {target.name: target}, amount)
        for key, amount in amounts.items()
        for target in named(every, key, unit=unit)
    ]
    several = [name for _, group, _ in groups for name in group]
    if twice := next((name for name in several if several.count(name) > 1), None):
        raise InputError(f"two amounts for the same weight {twice!r}")
    left = {name: (t, "no amount was given for it") for name, t in every.items() if name not in several}
    return _Work(tuple(groups), Choice({name: every[name] for name in several}, left))


def _extend(work: _Work, masks: Masks, rule: Rule) -> tuple[list[list[PrunedLayer]], list[int]]:
    """Rows of each group, and the units asked of it; raises InputError if nothing at all could go."""
    rows, asked = [], []
    for _, group, amount in work.groups:
        pruned, wanted = prune_group(group, rule, amount, masks)
        rows.append(pruned)
        asked.append(wanted)
    if sum(asked) and not any(row.pruned for part in rows for row in part):
        place = next(place for place, wanted in enumerate(asked) if wanted)
        where = f"layer {rows[place][0].name!r} has" if len(rows[place]) == 1 else "the layers together have"
        total = sum(row.before for row in rows[place])
        raise InputError(
            f"cannot prune {asked[place]:,} {rule.unit}s: {where} {total:,} left, and every layer keeps "
            f"{rule.keep}"
        )
    return rows, asked


def _usable_keep(keep: int) -> int:
    if not isinstance(keep, int) or isinstance(keep, bool) or keep < 0:
        raise InputError(
            f"keep must be an int of at least 0, the units that every layer keeps; found {brief(keep)}"
        )
    return keep


def _achieved(rows: Sequence[Sequence[PrunedLayer]], work: _Work, amount: Amount, scope: str) -> Amount:
    """What was pruned, in the measure of the amount."""
    if isinstance(amount, Mapping):
        by_key: dict[str, list[PrunedLayer]] = {}
        for (key, _, _), part in zip(work.groups, rows, strict=True):
            by_key.setdefault(key, []).extend(part)
        return {key: _share(part, amount[key], "layer") for key, part in by_key.items()}
    return _share([row for part in rows for row in part], amount, scope)


def _share(rows: Sequence[PrunedLayer], amount: int | float, scope: str) -> int | float:
    pruned, before = sum(row.pruned for row in rows), sum(row.before for row in rows)
    if isinstance(amount, float):
        return pruned / before if before else 0.0
    return pruned if scope == "global" else pruned // len(rows)
