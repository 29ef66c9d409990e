"""prune_to_budget(): as little pruning as brings a network within a budget of bits, size, work or time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from capacity import checks
from capacity.attention import unpack_attention
from capacity.cloning import clone, fold_masks, unwrapped
from capacity.columns import percent
from capacity.errors import InputError
from capacity.measuring import measure
from compression._moved import keep_old_names
from compression.costs import flops, latency
from compression.criteria import Criterion, require_criterion
from compression.masks import masks_of
from compression.pruning import prune
from compression.sensitivity import UNITS, Removal, Sensitivity
from compression.shrinking import shrink
from compression.shrinking.coupling import attention_heads, coupled_layers, units_of
from compression.targets import Unit, prunable

Cost = Literal["capacity_bits", "parameters", "flops", "latency_ms"]
COSTS = get_args(Cost)
STEPS = 16  # halvings of the range in which the least pruning lies


@dataclass(frozen=True)
class Budget:
    """At most so much: live capacity, live parameters, FLOPs (a multiply-add is two) or median latency."""

    of: Cost
    at_most: float

    def __post_init__(self) -> None:
        checks.word(*COSTS)("budget", self.of)
        checks.fields(self, {"at_most": checks.number})

    def measure(self, model: nn.Module, input_size: Any) -> float:
        """What the model takes of it; latency at batch size 1."""
        if self.of == "flops":
            return float(flops(model, input_size))
        if self.of == "latency_ms":
            return latency(model, input_size).median_ms
        report = measure(model, input_size, effective=True)
        return float(report.capacity_bits if self.of == "capacity_bits" else report.parameters)


@dataclass(frozen=True)
class WithinBudget:
    """A pruned model, what it took of the budget before and takes now, and the fraction pruned per layer."""

    model: nn.Module
    budget: Budget
    before: float
    reached: float
    amounts: Mapping[str, float]

    def __str__(self) -> str:
        lines = [f"{self.budget.of}: {self.before:,.6g} -> {self.reached:,.6g} of {self.budget.at_most:,.6g}"]
        return "\n".join(
            lines + [f"  {name}: {percent(amount, 1)} pruned" for name, amount in self.amounts.items()]
        )


@checks.arguments(
    budget=checks.instance(Budget),
    criterion=require_criterion,
    unit=checks.word(*UNITS),
    sensitivity=checks.optional(checks.instance(Sensitivity)),
)
def prune_to_budget(
    model: nn.Module,
    criterion: Criterion,
    *,
    input_size: Any,
    budget: Budget,
    unit: Removal = "weight",
    sensitivity: Sensitivity | None = None,
) -> WithinBudget:
    """A copy of the model pruned just enough to lie within the budget; the model itself is not changed.

    Parameters
    ----------
    criterion: as for `prune`
    input_size: as for `capacity.measure`
    budget: FLOPs and latency fall only for unit "channel", which shrinks; masks make nothing faster
    unit: "weight" or "neuron" (masked), or "channel" (removed, coupled layers together)
    sensitivity: amounts per layer follow from it: every layer may raise the error by the same amount, as
        little as the budget allows. Without it the same fraction goes from each layer.

    Raises InputError for a budget that cannot be reached, with the nearest that can.
    """
    _check(budget, unit, sensitivity)
    model = unwrapped(model)
    before = budget.measure(model, input_size)
    if before <= budget.at_most:
        return WithinBudget(clone(model), budget, before, before, {})
    most = _most(model, input_size, unit)

    def amounts(level: float) -> dict[str, float]:
        if sensitivity is None:
            return {name: level * most[name] for name in most}
        allowed = sensitivity.amounts(level * sensitivity.largest_rise)
        return {name: min(allowed[name], most[name]) for name in most if name in allowed}

    def pruned(level: float) -> tuple[nn.Module, float]:
        result = _apply(model, criterion, amounts(level), input_size, unit)
        return result, budget.measure(result, input_size)

    level, smaller, reached = _least(pruned, budget, unit)
    return WithinBudget(smaller, budget, before, reached, amounts(level))


def _check(budget: Budget, unit: str, sensitivity: Sensitivity | None) -> None:
    if budget.of in ("flops", "latency_ms") and unit != "channel":
        raise InputError(
            f"masking {unit}s makes nothing faster, so {budget.of} cannot fall: use unit='channel'"
        )
    if sensitivity is not None and sensitivity.unit != unit:
        raise InputError(f"the sensitivity was measured for {sensitivity.unit}s, not for {unit}s")


def _most(model: nn.Module, input_size: Any, unit: Removal) -> dict[str, float]:
    """The largest fraction of each layer that may go: all but one unit."""
    if unit == "channel":
        unpacked = unpack_attention(fold_masks(clone(model)))
        names = {module: name for name, module in unpacked.named_modules()}
        units = units_of(unpacked)
        for attention, layers in attention_heads(unpacked).items():
            units |= {names[layer]: int(attention.num_heads) for layer in layers}  # type: ignore[arg-type]
        groups = coupled_layers(model, input_size)
        return {group[0]: 1 - 1 / units[group[0]] for group in groups if units.get(group[0], 1) > 1}
    return {name: 1 - 1 / count for name, count in _alive(model, input_size, unit).items() if count > 1}


def _alive(model: nn.Module, input_size: Any, unit: Unit) -> dict[str, int]:
    masks, counts = masks_of(model), {}
    for name, target in prunable(model, None, unit=unit, input_size=input_size).items():
        mask = target.mask(masks)
        count = target.units if unit == "neuron" else target.elements
        if mask is not None:
            count = int((target.by_unit(mask).any(1) if unit == "neuron" else mask).sum())
        counts[name] = count
    return counts


def _apply(
    model: nn.Module, criterion: Criterion, amounts: Mapping[str, float], input_size: Any, unit: Removal
) -> nn.Module:
    if unit == "channel":
        some = {name: amount for name, amount in amounts.items() if amount > 0}
        return shrink(model, input_size, amount=some, criterion=criterion).model if some else clone(model)
    alive = _alive(model, input_size, unit)
    counts = {name: round(amount * alive[name]) for name, amount in amounts.items()}
    some_units = {name: count for name, count in counts.items() if count > 0}
    return prune(model, criterion, amount=some_units, unit=unit).model if some_units else clone(model)


def _least(
    pruned: Callable[[float], tuple[nn.Module, float]], budget: Budget, unit: str
) -> tuple[float, nn.Module, float]:
    """The least level in (0, 1] that lies within the budget, with its model and what that takes."""
    low, high = 0.0, 1.0
    best, reached = pruned(high)
    if reached > budget.at_most:
        raise InputError(
            f"a budget of {budget.at_most:,.6g} {budget.of} cannot be reached by pruning {unit}s: "
            f"the nearest that can is {reached:,.6g}"
        )
    for _ in range(STEPS):
        middle = (low + high) / 2
        candidate, cost = pruned(middle)
        if cost <= budget.at_most:
            high, best, reached = middle, candidate, cost
        else:
            low = middle
    return high, best, reached


keep_old_names(__name__)
