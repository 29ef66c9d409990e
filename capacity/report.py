"""What a measurement found: a row per layer, the totals, and the convention they were read under."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING

from capacity.characters import LOOKALIKE
from capacity.rules import Convention

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LayerCapacity:
    """One layer. `input_bits` is the cap on it, None where it sees raw data or the convention has no cap."""

    name: str
    kind: str
    parameters: int
    input_bits: int | None
    output_bits: int
    capacity_bits: int
    storage_bits: int = 0  # what holds its parameters, as stored: precision, quantization, sparse layout
    sources: tuple[str, ...] = ()  # the layers that feed it
    note: str = ""

    @property
    def capped(self) -> bool:
        """Whether the bits that enter, not the parameters, limit what the layer stores."""
        return self.input_bits is not None and self.capacity_bits == self.input_bits


@dataclass(frozen=True)
class CapacityReport:
    """Memory-equivalent capacity of a network, layer by layer, under a stated convention and scope."""

    layers: tuple[LayerCapacity, ...]
    convention: Convention
    scope: str
    effective: bool
    input_size: str
    total_parameters: int  # of the whole model, in scope or not, each tensor once
    notes: tuple[str, ...] = field(default=())

    @property
    def capacity_bits(self) -> int:
        """Bits the network stores: the sum over its layers (rule 3)."""
        return sum(layer.capacity_bits for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Parameters of the layers in scope; with `effective`, those on a live path."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def storage_bits(self) -> int:
        """Bits that hold the parameters in scope as they are stored now; masked ones still take theirs."""
        return sum(layer.storage_bits for layer in self.layers)

    @property
    def capacity_per_storage_bit(self) -> float:
        """Bits of capacity per bit of storage: what quantization improves."""
        return self.capacity_bits / self.storage_bits if self.storage_bits else 0.0

    @property
    def title(self) -> str:
        counted = "effective capacity" if self.effective else "capacity"
        return f"Memory-equivalent {counted}, convention {self.convention!r}, scope {self.scope}"

    def to_frame(self) -> "pd.DataFrame":
        """A row per layer, columns as the fields of LayerCapacity.

        A column whose sum does not fit 64 bits holds Python's integers, so that sums stay exact.
        """
        import pandas as pd

        columns = list(LayerCapacity.__dataclass_fields__)
        rows = [asdict(layer) for layer in self.layers]
        frame = pd.DataFrame(rows, columns=columns)
        for column in ("parameters", "input_bits", "output_bits", "capacity_bits", "storage_bits"):
            values = [row[column] for row in rows]
            wide = sum(value or 0 for value in values) >= 2**63
            kind = "object" if wide else "Int64" if column == "input_bits" else "int64"
            frame[column] = pd.Series(values, dtype=kind)
        return frame

    def to_latex(self, *, caption: str | None = None, label: str | None = None) -> str:
        """A booktabs table; the caption states convention and scope unless one is given."""
        from pandas.io.formats.style import Styler

        shown = ["name", "kind", "parameters", "input_bits", "output_bits", "capacity_bits"]
        frame = self.to_frame()[shown].astype(object)
        frame.loc[len(frame)] = ["total", "", self.parameters, None, None, self.capacity_bits]
        frame.columns = [column.replace("_bits", " [bit]") for column in frame.columns]

        def show(value: object) -> str:
            return f"{value:,}".replace(",", r"\,") if isinstance(value, int) else escape_latex(value)

        style: Styler = frame.style.format(show, na_rep="--").hide(axis="index")
        return str(
            style.to_latex(
                hrules=True, column_format="llrrrr", caption=caption or escape_latex(self.title), label=label
            )
        )

    def __str__(self) -> str:
        from rich.table import Table

        table = Table(show_footer=True)
        table.add_column("layer", "total", overflow="fold")
        table.add_column("kind")
        table.add_column("parameters", f"{self.parameters:,}", justify="right")
        table.add_column("input [bit]", justify="right")
        table.add_column("output [bit]", justify="right")
        table.add_column("capacity [bit]", f"{self.capacity_bits:,}", justify="right")
        for layer in self.layers:
            cap = "no cap" if layer.input_bits is None else f"{layer.input_bits:,}"
            table.add_row(
                layer.name or "(model)",
                layer.kind,
                f"{layer.parameters:,}",
                cap,
                f"{layer.output_bits:,}",
                f"{layer.capacity_bits:,}",
            )
        size = f"input {self.input_size}, {self.total_parameters:,} parameters in the whole model"
        gain = f"{self.capacity_per_storage_bit:.3g} bits of capacity per bit of storage"
        stored = f"stored in {self.storage_bits:,} bits: {gain}"
        notes = (f"note: {note}" for note in self.notes)
        return "\n".join([self.title, size, render(table), stored, *notes])


def render(table: object, *, width: int = 110) -> str:
    """A rich table as plain text: no colour codes, and [bit] stays [bit]; only what the console can print."""
    from rich.console import Console

    text = TextIOWrapper(BytesIO(), getattr(sys.stdout, "encoding", None) or "utf-8", LOOKALIKE, newline="")
    Console(file=text, width=width, force_terminal=False, color_system=None, markup=False).print(table)
    text.seek(0)
    return "\n".join(line.rstrip() for line in text.read().rstrip().splitlines())


LATEX = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "\n": " ", "\r": " "}
)


def escape_latex(value: object) -> str:
    r"""Text that LaTeX prints as it is, in one line.

    >>> print(escape_latex(r"C:\data\~me^2"))
    C:\textbackslash{}data\textbackslash{}\textasciitilde{}me\textasciicircum{}2
    """
    return str(value).translate(LATEX)


def describe_scope(scope: str | Sequence[str]) -> str:
    """The scope as printed: 'all', 'trainable', or the named modules."""
    return scope if isinstance(scope, str) else ", ".join(scope)
