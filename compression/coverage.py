"""What pruning reached: a masked copy of the model, the share of the whole, and what was left and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from capacity.report import escape_latex, render
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


@dataclass(frozen=True)
class PruneResult:
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
        found = {name: self.masks[name] for name in once if name in self.masks}
        return density(found)

    @property
    def title(self) -> str:
        """Amounts in a line: of what was pruned, and of the whole model."""
        kinds = {int: f" (a count of {self.unit}s)", float: f" (a fraction of the {self.unit}s)"}
        meant = kinds.get(type(self.requested), "")
        amounts = f"requested {shown(self.requested)}{meant}, achieved {shown(self.achieved)}"
        whole = f"{self.achieved_of_model:.1%} of the whole model's parameters are masked"
        missing = f", {self.shortfall:,} {self.unit}s fewer than requested" if self.shortfall else ""
        return f"{amounts} in {len(self.layers)} layers{missing}, density {self.density:.4f}; {whole}"

    def to_frame(self, *, left: bool = False) -> "pd.DataFrame":
        """A row per layer: units before, pruned and after; or, with `left`, a row per layer left alone."""
        import pandas as pd

        if left:
            return pd.DataFrame(self.left, columns=LeftLayer._fields)
        return pd.DataFrame([asdict(layer) | {"after": layer.after} for layer in self.layers])

    def to_latex(self, *, left: bool = False) -> str:
        """A booktabs table of `to_frame`; its caption says what share of the whole model is masked."""
        frame = self.to_frame(left=left)
        return frame.to_latex(index=False, escape=True, caption=escape_latex(self.title))

    def __str__(self) -> str:
        from rich.table import Table

        table = Table()
        for column in ("layer", f"{self.unit}s before", "pruned", "after"):
            table.add_column(column, justify="left" if column == "layer" else "right")
        for layer in self.layers:
            table.add_row(
                layer.name or "(model)", f"{layer.before:,}", f"{layer.pruned:,}", f"{layer.after:,}"
            )
        lines = [self.title, render(table), *self._left_lines()]
        return "\n".join([*lines, "mask only: nothing became smaller or faster"])

    def _left_lines(self) -> list[str]:
        rows = sorted(self.left, key=lambda row: -row.parameters)
        lines = [
            f"left: {row.name or '(model)'}, {row.parameters:,} parameters ({row.share:.1%}): {row.reason}"
            for row in rows[:LEFT_SHOWN]
        ]
        rest = rows[LEFT_SHOWN:]
        share = sum(row.share for row in rest)
        return lines + ([f"left: {len(rest)} more ({share:.1%})"] if rest else [])


def coverage(
    model: nn.Module, masks: Masks, choice: Choice, kept: Mapping[str, int]
) -> tuple[float, tuple[LeftLayer, ...]]:
    """The share of all parameters that masks hold at zero, and what was left; `kept` are known counts."""
    every = distinct_parameters(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    known = {target.names: kept[name] for name, target in choice.chosen.items() if name in kept}
    masked = 0
    for names in every:
        mask = next((masks[name] for name in names if name in masks), None)
        if mask is not None:
            masked += mask.numel() - (known[names] if names in known else int(torch.count_nonzero(mask)))
    left = [
        LeftLayer(name, target.elements, target.elements / total, reason)
        for name, (target, reason) in choice.left.items()
    ]
    found = {*(t.names for t in choice.chosen.values()), *(t.names for t, _ in choice.left.values())}
    for names, parameter in every.items():
        if parameter.dim() > 1 and names not in found:
            reason = f"it holds {parameter.dtype}, not real numbers in floating point"
            left.append(LeftLayer(names[0], parameter.numel(), parameter.numel() / total, reason))
    rest = total - sum(t.elements for t in choice.chosen.values()) - sum(row.parameters for row in left)
    if rest > 0:
        reason = "not pruned by their own scores; a neuron's bias goes with it"
        left.append(LeftLayer("biases, scales and shifts", rest, rest / total, reason))
    return masked / total, tuple(left)
