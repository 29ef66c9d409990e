"""sensitivity(): the error after pruning one layer at a time, and the amounts that a tolerance allows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from torch import nn

from capacity import checks
from capacity.cloning import unwrapped
from capacity.columns import KEY, Column, percent
from capacity.errors import InputError, brief
from capacity.tables import Table, Tabular
from compression.criteria import Criterion, require_criterion
from compression.pruning import prune
from compression.shrinking import shrink
from compression.shrinking.coupling import coupled_layers
from compression.targets import prunable

if TYPE_CHECKING:
    import pandas as pd

Removal = Literal["weight", "neuron", "channel"]
UNITS = get_args(Removal)
AMOUNTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Effect:
    """Error with one layer pruned, and those that lose units with it; fractions of the layer's units."""

    layer: str
    coupled: tuple[str, ...]
    requested: float
    error: float


@dataclass(frozen=True)
class Sensitivity(Tabular):
    """The error per layer and amount, beside that of the model as it is."""

    unit: str
    baseline: float
    effects: tuple[Effect, ...]

    @property
    def layers(self) -> list[str]:
        """The layers that were pruned, one at a time; of a coupled group its first."""
        return list(dict.fromkeys(effect.layer for effect in self.effects))

    def amounts(self, tolerance: float) -> dict[str, float]:
        """The largest amount of each layer that raises the error by at most `tolerance`, one at a time.

        Between the measured amounts the error is interpolated linearly, and it never falls with the amount
        (the running maximum is taken). At most the largest measured amount is returned.
        """
        checks.number("tolerance", tolerance)
        amounts_ = {}
        for name in self.layers:
            rows = sorted((e.requested, e.error) for e in self.effects if e.layer == name)
            amounts = np.array([0.0] + [amount for amount, _ in rows])
            rises = np.maximum.accumulate([0.0] + [error - self.baseline for _, error in rows])
            place = int(np.searchsorted(rises, tolerance, side="right"))
            amount = float(amounts[place - 1])
            if place < len(rises):
                share = (tolerance - rises[place - 1]) / (rises[place] - rises[place - 1])
                amount += share * float(amounts[place] - amounts[place - 1])
            amounts_[name] = amount
        return amounts_

    @property
    def largest_rise(self) -> float:
        """The largest rise of the error that was measured; at least 0."""
        return max(0.0, *(effect.error - self.baseline for effect in self.effects))

    def table(self) -> Table:
        """A row per layer and a column per amount."""
        amounts = list(dict.fromkeys(effect.requested for effect in self.effects))
        columns = [Column("layer", f"error without {self.unit}s of", importance=KEY)]
        columns += [Column(f"{amount:g}", percent(amount), style=".4f") for amount in amounts]
        rows = [
            {"layer": name} | {f"{e.requested:g}": e.error for e in self.effects if e.layer == name}
            for name in self.layers
        ]
        title = f"error of the model as it is: {self.baseline:.4f}"
        return Table(columns, rows, title, label="tab:sensitivity")

    def to_frame(self) -> "pd.DataFrame":
        """A row per layer and amount."""
        import pandas as pd

        rows = [asdict(effect) | {"coupled": " ".join(effect.coupled)} for effect in self.effects]
        return pd.DataFrame(rows).assign(unit=self.unit, baseline=self.baseline)


@checks.arguments(
    evaluate=checks.function(1),
    criterion=require_criterion,
    unit=checks.word(*UNITS),
    amounts=checks.each(checks.number),
)
def sensitivity(
    model: nn.Module,
    criterion: Criterion,
    *,
    evaluate: Callable[[nn.Module], float],
    input_size: Any = None,
    unit: Removal = "weight",
    amounts: Sequence[float] = AMOUNTS,
) -> Sensitivity:
    """Prune one layer at a time, by each amount, without retraining, and measure the error.

    Parameters
    ----------
    criterion: as for `prune`
    evaluate: model -> an error, lower is better, on validation data; for example
        `lambda model: evaluate(model, batches).top1_error`
    input_size: as for `capacity.measure`; needed for unit "channel", and to find
        the output layers with, which are left alone
    unit: "weight" and "neuron" mask; "channel" shrinks, and layers coupled by a shortcut count as one
    amounts: fractions of a layer's units, ascending

    Raises InputError for amounts outside (0, 1) and where `prune` or `shrink` do.

    Reference: Li et al. 2017, "Pruning Filters for Efficient ConvNets", arXiv:1608.08710, section 3.2.
    """
    if not amounts or any(not 0 < amount < 1 for amount in amounts) or list(amounts) != sorted(set(amounts)):
        raise InputError(f"amounts must be ascending fractions between 0 and 1, found {list(amounts)}")
    if unit == "channel":
        if input_size is None:
            raise InputError("unit 'channel' shrinks the model and needs its input_size")
        groups = coupled_layers(model, input_size)
    else:
        every = prunable(unwrapped(model), None, unit=unit, input_size=input_size)
        groups = [(name,) for name, target in every.items() if unit == "weight" or target.units > 1]
    effects = []
    for group in groups:
        for amount in amounts:
            if unit == "channel":
                pruned = shrink(model, input_size, amount={group[0]: amount}, criterion=criterion).model
            else:
                pruned = prune(model, criterion, amount={group[0]: amount}, unit=unit).model
            effects.append(Effect(group[0], group, amount, _error_of(evaluate(pruned))))
    return Sensitivity(unit, _error_of(evaluate(model)), tuple(effects))


def _error_of(value: Any) -> float:
    """What `evaluate` returned, as a number; raises InputError for what is none."""
    try:
        error = float(value)
    except (TypeError, ValueError, RuntimeError):
        error = math.nan
    if not math.isfinite(error):
        raise InputError(
            f"evaluate must return a finite error, as lambda model: evaluate(model, batches).top1_error "
            f"does; found {brief(value)}"
        )
    return error
