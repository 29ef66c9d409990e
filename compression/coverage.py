"""What pruning reached: a masked copy of the model, the share of the whole, and what was left and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from capacity.columns import KEY, Column, percent
from capacity.tables import Table, Tabular
from compression.amounts import Amount, shown
from compression.candidates import PrunedLayer
from compression.masks import Masks, density
from compression.targets import Choice, distinct_parameters

if TYPE_CHECKING:
    import pandas as pd

LEFT_SHOWN = 12  # rows in print; `to_frame(left=True)` has all


class LeftLayer(NamedTuple):
    """Parameters that were not pruned: how many, their share of all the model's, and why."""

    name: str
    parameters: int
    share: float
    reason: str


PRUNED = (
    Column("name", "layer", importance=KEY, value=lambda row: row["name"] or "(model)"),
    Column("before", "before", style=",", importance=2),
    Column("pruned", "pruned", style=",", importance=4),
    Column("after", "after", style=",", importance=3),
)
LEFT = (
    Column("name", "left", importance=KEY, value=lambda row: row["name"] or "(model)"),
    Column("parameters", "parameters", style=",", importance=4),
    Column("share", "of the model", "%", factor=100, style=".1f", importance=3),
    Column("reason", "because", prose=True, importance=5),
)


@dataclass(frozen=True)
class PruneResult(Tabular):
    """A masked copy of the model. Mask only: nothing became smaller or faster until it is shrunk.

    `requested` is the amount as given; `achieved` is what was pruned, in the same measure (units per
    layer, or all of them for scope "global", or a fraction of the units that were alive; or that for
    each layer), of the `layers` alone. `achieved_of_model` is the share of all the model's parameters that
    masks hold at zero, each tensor once; `left` are those that were not pruned. `shortfall` counts the units
    that were asked for but had to stay, for every layer to keep some.
    """

    model: nn.Module
    masks: Masks
    requested: Amount
    achieved: Amount
    unit: str
    layers: tuple[PrunedLayer, ...]
    achieved_of_model: float
    left: tuple[LeftLayer, ...]
    shortfall: int = 0

    @property
    def density(self) -> float:
        """Kept parameters as a fraction of all elements of the masked tensors, tied ones once."""
        once = {names[0]: names for names in distinct_parameters(self.model)}
        masks = {name: self.masks[name] for name in once if name in self.masks}
        return density(masks)

    @property
    def title(self) -> str:
        """Amounts in a line: of what was pruned, and of the whole model."""
        kinds = {int: f" (a count of {self.unit}s)", float: f" (a fraction of the {self.unit}s)"}
        meant = kinds.get(type(self.requested), "")
        amounts = f"requested {shown(self.requested)}{meant}, achieved {shown(self.achieved)}"
        of_model = f"{percent(self.achieved_of_model, 1)} of the whole model's parameters are masked"
        missing = f", {self.shortfall:,} {self.unit}s fewer than requested" if self.shortfall else ""
        return f"{amounts} in {len(self.layers)} layers{missing}, density {self.density:.4f}; {of_model}"

    def table(self, *, left: bool = False) -> Table:
        """A row per layer: units before, pruned and after; or, with `left`, a row per layer left alone."""
        rows: list[dict[str, Any]]
        if left:
            rows = [row._asdict() for row in self.left]
            return Table(LEFT, rows, self.title, label="tab:prune-left")
        rows = [asdict(layer) | {"after": layer.after} for layer in self.layers]
        columns = [replace(c, header=f"{self.unit}s before") if c.name == "before" else c for c in PRUNED]
        notes = [*self._left_lines(), "mask only: nothing became smaller or faster"]
        return Table(columns, rows, self.title, notes, label="tab:prune")

    def to_frame(self, *, left: bool = False) -> "pd.DataFrame":
        """A row per layer: units before, pruned and after; or, with `left`, a row per layer left alone."""
        return self.table(left=left).to_frame()

    def to_latex(
        self, *, left: bool = False, caption: str | None = None, label: str | None = None,
        venue: str = "article",
    ) -> str:  # fmt: skip
        """A booktabs table of `table(left=...)` at a venue's width."""
        return self.table(left=left).to_latex(caption=caption, label=label, venue=venue)

    def _left_lines(self) -> list[str]:
        rows = sorted(self.left, key=lambda row: -row.parameters)
        lines = [
            f"left: {row.name or '(model)'}, {row.parameters:,} parameters ({percent(row.share, 1)}): "
            f"{row.reason}"
            for row in rows[:LEFT_SHOWN]
        ]
        rest = rows[LEFT_SHOWN:]
        share = sum(row.share for row in rest)
        return lines + ([f"left: {len(rest)} more ({percent(share, 1)})"] if rest else [])


def coverage(
    model: nn.Module, masks: Masks, choice: Choice, survivors: Mapping[str, int]
) -> tuple[float, tuple[LeftLayer, ...]]:
    """The share of all parameters that masks hold at zero, and what was left; `kept` are known counts."""
    every = distinct_parameters(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    known = {target.names: survivors[name] for name, target in choice.chosen.items() if name in survivors}
    masked = 0
    for names in every:
        mask = next((masks[name] for name in names if name in masks), None)
        if mask is not None:
            masked += mask.numel() - (known[names] if names in known else int(torch.count_nonzero(mask)))
    left = [
        LeftLayer(name, target.elements, target.elements / total, reason)
        for name, (target, reason) in choice.left.items()
    ]
    listed = {*(t.names for t in choice.chosen.values()), *(t.names for t, _ in choice.left.values())}
    for names, parameter in every.items():
        if parameter.dim() > 1 and names not in listed:
            reason = f"it holds {parameter.dtype}, not real numbers in floating point"
            left.append(LeftLayer(names[0], parameter.numel(), parameter.numel() / total, reason))
    rest = total - sum(t.elements for t in choice.chosen.values()) - sum(row.parameters for row in left)
    if rest > 0:
        reason = "not pruned by their own scores; a neuron's bias goes with it"
        left.append(LeftLayer("biases, scales and shifts", rest, rest / total, reason))
    return masked / total, tuple(left)
