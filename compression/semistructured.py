"""prune_n_of_m(): masks that keep n of every m weights in a row, as sparse tensor cores read them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import clone, initialized, unwrapped
from capacity.errors import InputError
from compression.candidates import PrunedLayer, checked_value, scores_of
from compression.coverage import PruneResult, coverage
from compression.criteria import Criterion, Sampler, observed, require_criterion
from compression.masks import apply_masks, masks_of
from compression.targets import Choice, Target, choose


@checks.arguments(criterion=require_criterion, n=checks.integer, m=checks.integer)
def prune_n_of_m(
    model: nn.Module,
    criterion: Criterion,
    *,
    n: int = 2,
    m: int = 4,
    layers: Sequence[str] | None = None,
    input_size: Any = None,
) -> PruneResult:
    """A copy of the model that keeps the n best of every m neighbouring weights of a row.

    2 of 4 is what sparse tensor cores multiply: `torch.sparse.to_sparse_semi_structured` takes the masked
    weights of dense layers as they are. Rows are those of the weight as a matrix (units, inputs); what was
    masked before stays so and counts as the lowest.

    Parameters
    ----------
    criterion: as for `prune`, but one that scores weights
    layers, input_size: as for `prune`; layers whose rows are no multiple of m, or no units, are `left`

    Raises InputError where `prune` does, for n and m that are not 0 < n < m, and if no layer fits.

    Reference: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378.

    >>> model = nn.Linear(4, 1)
    >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0, 2.0, 0.5]]))
    >>> prune_n_of_m(model, torch.abs, layers=[""]).masks["weight"].tolist()
    [[True, False, True, False]]
    """
    if not 0 < n < m:
        raise InputError(f"of m weights n are kept, so 0 < n < m; found n={n}, m={m}")
    if isinstance(criterion, Sampler):
        raise InputError(f"{criterion!r} chooses without scores, so no weight of {m} is better than another")
    model = initialized(unwrapped(model))
    choice = _fitting(choose(model, layers, input_size=input_size), m)
    criterion, masks = observed(criterion, model), masks_of(model)
    rows = []
    for target in choice.chosen.values():
        weight, before = checked_value(target), target.mask(masks)
        alive = torch.ones_like(weight, dtype=torch.bool) if before is None else before.to(weight.device)
        mask = _best(scores_of(target, criterion, weight), alive, n, m)
        masks |= dict.fromkeys(target.names, mask)
        living = int(alive.sum())
        rows.append(PrunedLayer(target.name, living, living - int(mask.sum())))
    copied = apply_masks(clone(model), masks, keep_dropped=False)
    share, left = coverage(copied, masks_of(copied), choice, {row.name: row.after for row in rows})
    gone, total = sum(row.pruned for row in rows), sum(row.before for row in rows)
    return PruneResult(
        copied, masks | masks_of(copied), 1 - n / m, gone / total if total else 0.0, "weight", tuple(rows),
        share, left,
    )  # fmt: skip


def _fitting(choice: Choice, m: int) -> Choice:
    """The layers whose rows are units of a multiple of m weights; raises InputError if there are none."""
    left, chosen = dict(choice.left), dict[str, Target]()
    for name, target in choice.chosen.items():
        length = target.elements // max(int(target.shape[0]), 1)
        if target.place.axis != 0:
            left[name] = target, "its rows are not units that read what neighbours in them multiply"
        elif length % m:
            left[name] = target, f"its rows of {length} weights are no multiple of {m}"
        else:
            chosen[name] = target
    if not chosen:
        why = "; ".join(f"{name!r}: {reason}" for name, (_, reason) in list(left.items())[:4])
        raise InputError(f"no layer has rows of a multiple of {m} weights: {why}")
    return Choice(chosen, left)


def _best(scores: Tensor, alive: Tensor, n: int, m: int) -> Tensor:
    """Which weights stay: the n of highest scores of every m of a row, if they were alive."""
    ranked = scores.masked_fill(~alive, -torch.inf).reshape(-1, m)
    places = ranked.argsort(dim=1, descending=True, stable=True)[:, :n]
    best = torch.zeros_like(ranked, dtype=torch.bool).scatter_(1, places, True)
    return best.view(scores.shape) & alive
