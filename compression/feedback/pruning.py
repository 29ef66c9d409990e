"""prune_with_feedback(): weights masked where the others can make good for them best, and the others moved.

Reference: Frantar and Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
One-Shot", arXiv:2301.00774. What is kept is then fitted by least squares to the whole layer's output, which
one pass over the columns only comes near to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import initialized, plain_copy, unwrapped
from capacity.columns import Column
from capacity.errors import InputError, brief
from capacity.tables import Table
from compression.amounts import Amount, number_of, plain_amount, plain_amounts
from compression.candidates import PrunedLayer
from compression.coverage import PruneResult, coverage
from compression.feedback.aims import aimed_steps
from compression.feedback.hessians import Calibration, Walk
from compression.feedback.layers import matrices_of, weight_of
from compression.feedback.sweeping import BLOCK, factor_of, output_error, refit, sweep
from compression.masks import Masks, apply_masks, masks_of
from compression.targets import Target, choose


@dataclass(frozen=True)
class FeedbackPruneResult(PruneResult):
    """A masked copy whose weights were moved; `output_errors` are ‖Wx - Ŵx‖² / ‖Wx‖² of each layer.

    They are over the batches, with what the compressed layers before give as x.
    """

    output_errors: Mapping[str, float] = field(default_factory=dict)

    def table(self, *, left: bool = False) -> Table:
        """A row per layer, with its output error; or, with `left`, a row per layer left alone."""
        table = super().table(left=left)
        if left:
            return table
        rows = [
            asdict(layer) | {"after": layer.after, "error": self.output_errors[layer.name]}
            for layer in self.layers
        ]
        column = Column("error", "output error", "%", factor=100, style=".3g", importance=4)
        return replace(table, columns=[*table.columns, column], rows=rows)


def prune_with_feedback(
    model: nn.Module,
    batches: Calibration | Iterable[Any],
    *,
    amount: Amount | None = None,
    n_of_m: tuple[int, int] | None = None,
    layers: Sequence[str] | None = None,
    input_size: Any = None,
) -> FeedbackPruneResult:
    """A copy of the model with weights masked, the others moved so that each layer's output stays near.

    Parameters
    ----------
    batches: as for `compression.Taylor`, gone through once for each layer; labels are not needed. Or a
        `Calibration`, which says more
    amount: of each layer's weights, as for `prune`; or a dict of amounts by layer
    n_of_m: instead of an amount, (2, 4) keeps 2 of every 4 neighbouring weights of a row
    layers, input_size: as for `prune`; dense layers, convolutions and transformers' `Conv1D` are pruned,
        others are `left`

    What was masked before stays so. Each layer's outputs are to be what they were in the network as it came,
    in the mean by its bias or by the batch norm behind it: see `compression.feedback.aims`. Masks and
    parametrizations are folded, the new masks set.

    Raises InputError where `prune` does, for batches that give a layer NaN, and where no layer can be pruned.

    >>> x = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
    >>> pruned = prune_with_feedback(layer, Calibration([x], damping=0.0), amount=1, layers=[""]).model
    >>> [round(value, 3) for value in pruned.weight[0].tolist()]  # a third of the second input is the first
    [3.333, 0.0]
    """
    requested = _requested(amount, n_of_m)
    model = initialized(unwrapped(model))
    copied, masks = plain_copy(model).eval(), masks_of(model)
    named = list(requested) if isinstance(requested, Mapping) else layers
    choice = choose(copied, named, input_size=input_size)
    walk = Walk.of(copied, Calibration.of(batches), choice, partial(_unfit, n_of_m))
    by_name = _by_target(walk, requested)
    rows, errors = [], {}
    for target, aim, hessian in aimed_steps(walk):
        alive = target.mask(masks)
        alive = torch.ones(target.shape, dtype=torch.bool) if alive is None else alive
        rule = _Pattern(*n_of_m) if n_of_m else _Share(_number(target, by_name[target.name], alive))
        mask, errors[target.name] = _prune(target, (aim, hessian), alive, rule)
        rows.append(PrunedLayer(target.name, int(alive.sum()), int(alive.sum()) - int(mask.sum())))
        masks |= dict.fromkeys(target.names, mask)
    return _result(copied, masks, walk, requested, rows, errors)


def _requested(amount: Any, n_of_m: Any) -> Amount:
    """The amount in Python's own numbers; raises InputError for what cannot be asked."""
    if (amount is None) == (n_of_m is None):
        raise InputError("give either amount or n_of_m")
    if amount is not None:
        return plain_amounts(amount)
    pair = isinstance(n_of_m, tuple | list) and len(n_of_m) == 2 and all(type(v) is int for v in n_of_m)
    if not pair or not 0 < n_of_m[0] < n_of_m[1] <= BLOCK:
        raise InputError(
            f"n_of_m keeps n of m weights, 0 < n < m <= {BLOCK}, such as (2, 4); found {brief(n_of_m)}"
        )
    return 1 - int(n_of_m[0]) / int(n_of_m[1])


def _unfit(n_of_m: tuple[int, int] | None, target: Target) -> str:
    columns = matrices_of(target.module, torch.empty(target.shape, device="meta")).shape[2]
    if n_of_m is None or columns % n_of_m[1] == 0:
        return ""
    return f"its rows of {columns} weights are no multiple of {n_of_m[1]}"


def _by_target(walk: Walk, requested: Amount) -> dict[str, int | float]:
    """The amount of each target; a layer's name stands for its weight under any of its names."""
    if not isinstance(requested, Mapping):
        return dict.fromkeys(walk.choice.chosen, requested)
    return {name: target.among(requested) for name, target in walk.choice.chosen.items()}


def _number(target: Target, amount: int | float, alive: Tensor) -> int:
    count = int(alive.sum())
    what = f"layer {target.name!r} has|weights"
    return number_of(plain_amount(amount), [count], [max(0, count - 1)], what=what, keep=1)[0]


@torch.no_grad()
def _prune(
    target: Target, aim: tuple[Tensor, Tensor], alive: Tensor, rule: "_Share | _Pattern"
) -> tuple[Tensor, float]:
    """Prune one weight in place; its mask, and by what share of their energy its outputs miss their aim.

    aim: weights whose outputs those are to be, and H
    """
    matrices, hessian = aim
    alive = matrices_of(target.module, alive).cpu()
    mask = alive.clone()
    chosen, _ = sweep(
        matrices, factor_of(hessian), _Chooser(rule, mask, alive), block=BLOCK - BLOCK % rule.span
    )
    chosen = refit(matrices, chosen, mask, hessian)
    target.value().copy_(weight_of(target.module, chosen, target.shape))
    error, energy = output_error(matrices - chosen, hessian).sum(), output_error(matrices, hessian).sum()
    shaped = weight_of(target.module, mask, target.shape).contiguous()
    return shaped, float(error / energy) if energy else 0.0


@dataclass(frozen=True)
class _Pattern:
    """n of every m stay."""

    n: int
    m: int

    @property
    def span(self) -> int:
        """Columns that are chosen from at once."""
        return self.m

    def dropped(self, scores: Tensor, seen: int, total: int) -> Tensor:
        """Which of (groups, rows, m) go: the lowest of each row."""
        lowest = scores.argsort(dim=2, stable=True)[..., : self.m - self.n]
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(2, lowest, True)


@dataclass(frozen=True)
class _Share:
    """So many weights of the layer go."""

    number: int

    @property
    def span(self) -> int:
        """Columns that are chosen from at once."""
        return BLOCK

    def dropped(self, scores: Tensor, seen: int, total: int) -> Tensor:
        """Which of (groups, rows, n) go: the lowest, as many as are due after `total` living ones.

        seen: living weights in the columns before
        """
        finite = scores >= 0
        now = int(finite.sum())
        due = self.number * (seen + now) // total - self.number * seen // total if total else 0
        lowest = scores.masked_fill(~finite, torch.inf).flatten().argsort(stable=True)[:due]
        drop = ~finite.flatten()
        drop[lowest] = True
        return drop.view(scores.shape)


class _Chooser:
    """For `sweep`: zero where the mask, which it fills in span by span, drops a weight."""

    def __init__(self, rule: _Share | _Pattern, mask: Tensor, alive: Tensor) -> None:
        self.rule, self.mask, self.alive, self.seen = rule, mask, alive, 0

    def __call__(self, values: Tensor, diagonal: Tensor, column: int) -> Tensor:
        span = self.rule.span
        if column % span == 0:
            stop = min(column + span, self.mask.shape[2])
            living = self.alive[..., column:stop]
            scores = (values[..., :span] / diagonal[:, None, :span]).square()
            scores = scores.masked_fill(~living, -1.0)
            dropped = self.rule.dropped(scores, self.seen, int(self.alive.sum()))
            self.mask[..., column:stop] &= ~dropped
            self.seen += int(living.sum())
        return values[..., 0] * self.mask[..., column]


def _result(
    model: nn.Module, masks: Masks, walk: Walk, requested: Amount, rows: Sequence[PrunedLayer],
    errors: Mapping[str, float],
) -> FeedbackPruneResult:  # fmt: skip
    """The masked network and what was reached."""
    apply_masks(model, masks, keep_dropped=False)
    share, left = coverage(model, masks_of(model), walk.choice, {row.name: row.after for row in rows})
    achieved: Amount
    if isinstance(requested, Mapping):
        asked = _by_target(walk, requested)
        achieved = {row.name: _achieved([row], asked[row.name]) for row in rows}
    else:
        achieved = _achieved(rows, requested)
    return FeedbackPruneResult(
        model, masks | masks_of(model), requested, achieved, "weight", tuple(rows), share, left,
        output_errors=errors,
    )  # fmt: skip


def _achieved(rows: Sequence[PrunedLayer], amount: int | float) -> int | float:
    pruned, before = sum(row.pruned for row in rows), sum(row.before for row in rows)
    if isinstance(amount, int):
        return pruned // len(rows)
    return pruned / before if before else 0.0
