"""When to prune, and from where to retrain: gradually while training goes on; rewinding to early weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from capacity import checks
from capacity.cloning import clone
from capacity.errors import InputError
from capacity.live import live_masks
from compression._moved import keep_old_names
from compression.criteria import Criterion, require_criterion
from compression.masks import Masks, apply_masks, masks_of
from compression.pruning import extend_masks
from compression.targets import Target, prunable

FIELDS: Mapping[str, checks.Check] = {
    **dict.fromkeys(("final_sparsity", "end_epoch", "begin_epoch"), checks.plain),
    "criterion": require_criterion, "updates": checks.count,
    "scope": checks.word("layer", "global"), "layers": checks.optional(checks.names),
}  # fmt: skip


@dataclass(frozen=True)
class GradualPruning:
    """Prune single weights while training, a little less each time, up to a final sparsity.

    s(t) = s_final · (1 - (1 - t)³) with t running from 0 at `begin_epoch` to 1 at `end_epoch`, in
    `updates` steps; what was pruned stays pruned. With scope "layer" every layer follows the schedule,
    with "global" all of them together do. With `input_size` (as for `capacity.measure`), weights that are
    on no live path from input to output any more are pruned first, whatever their size: they would spend
    what may stay on nothing.

    Reference: Zhu and Gupta 2017, "To prune, or not to prune", arXiv:1710.01878.
    """

    criterion: Criterion
    final_sparsity: float
    end_epoch: float
    begin_epoch: float = 0.0
    updates: int = 50
    scope: Literal["layer", "global"] = "global"
    layers: Sequence[str] | None = None
    input_size: Any = None

    def check(self, epochs: int) -> None:
        """Raise InputError for a schedule that cannot be kept within these epochs."""
        checks.fields(self, FIELDS)
        if not 0 < self.final_sparsity < 1:
            raise InputError(f"final_sparsity must lie between 0 and 1, found {self.final_sparsity}")
        if not 0 <= self.begin_epoch < self.end_epoch <= epochs:
            raise InputError(
                f"gradual pruning from epoch {self.begin_epoch} to {self.end_epoch} does not lie within "
                f"the {epochs} epochs of training"
            )
        if self.updates < 1:
            raise InputError(f"updates must be at least 1, found {self.updates}")

    def due(self, epoch: float) -> int:
        """How many of the updates are due at a (fractional) epoch.

        >>> schedule = GradualPruning(abs, 0.9, end_epoch=2, updates=4)
        >>> [schedule.due(epoch) for epoch in (0, 0.5, 1.9, 2, 9)]
        [0, 1, 3, 4, 4]
        """
        share = (epoch - self.begin_epoch) / (self.end_epoch - self.begin_epoch)
        return int(self.updates * min(1.0, max(0.0, share)) + 1e-9)

    def sparsity(self, update: int) -> float:
        """The sparsity after this many updates.

        >>> [round(GradualPruning(abs, 0.8, end_epoch=2, updates=2).sparsity(k), 3) for k in range(3)]
        [0.0, 0.7, 0.8]
        """
        return self.final_sparsity * (1 - (1 - update / self.updates) ** 3)

    def targets(self, model: nn.Module) -> dict[str, Target]:
        """The matrices that every update prunes, by name."""
        return prunable(model, self.layers, input_size=self.input_size)

    def extend(
        self, model: nn.Module, masks: Masks, update: int, chosen: Mapping[str, Target] | None = None
    ) -> None:
        """Prune what this update asks for; changes `masks`, and sets dead weights of the model to zero.

        chosen: the model's `targets`, where they are known already
        """
        chosen = self.targets(model) if chosen is None else chosen
        if self.input_size is not None:
            self._drop_dead(model, masks, chosen)
        groups = [list(chosen)] if self.scope == "global" else [[name] for name in chosen]
        for names in groups:
            group = [chosen[name] for name in names]
            total = sum(target.elements for target in group)
            earlier = [target.mask(masks) for target in group]
            dead = sum(int((~mask).sum()) for mask in earlier if mask is not None)
            missing = round(self.sparsity(update) * total) - dead
            missing = min(missing, total - dead - 1)  # the last weight of a small layer stays
            if missing > 0:
                extend_masks(model, masks, self.criterion, amount=missing, scope="global", layers=names)

    def _drop_dead(self, model: nn.Module, masks: Masks, chosen: Mapping[str, Target]) -> None:
        live = live_masks(model, self.input_size)
        for target in chosen.values():
            key = next((name for name in target.names if name in live), None)
            if key is None:
                continue
            earlier = target.mask(masks)
            alive = live[key] if earlier is None else live[key] & earlier
            if bool(alive.any()):  # a layer that lives nowhere has the schedule to answer for
                masks |= dict.fromkeys(target.names, alive)
                weight = target.module._parameters.get(target.key)
                if weight is not None:
                    weight.data.mul_(alive)


@checks.arguments(pruned=checks.module, early=checks.module)
def rewind(pruned: nn.Module, early: nn.Module) -> nn.Module:
    """What survived the pruning, at the values it had early in training: a masked copy of `early`.

    Train with `TrainingSettings(snapshot_epoch=k)`, prune, rewind to `FitResult.snapshot` and train again
    with `TrainingSettings(start_epoch=k)`; to rewind the learning rate only, train the pruned network from
    there.

    Raises InputError if the two differ in architecture.

    Reference: Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis",
    arXiv:1912.05671; learning-rate rewinding: Renda et al. 2020, arXiv:2003.02389.
    """
    return apply_masks(clone(early), masks_of(pruned), keep_dropped=False)


keep_old_names(__name__)
