"""What a measurement found: a row per layer, the totals, and the convention they were read under."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from capacity.columns import KEY, Column, number
from capacity.latex import escape_latex as escape_latex
from capacity.rules import Convention
from capacity.tables import Table, Tabular

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


COLUMNS = (
    Column("name", "layer", importance=KEY, missing="(model)"),
    Column("kind", "kind", importance=3),
    Column("parameters", "parameters", style=",", importance=4),
    Column("input_bits", "input", "bit", style=",", importance=2, missing="no cap"),
    Column("output_bits", "output", "bit", style=",", importance=1),
    Column("capacity_bits", "capacity", "bit", style=",", importance=5),
)


@dataclass(frozen=True)
class CapacityReport(Tabular):
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

    def table(self) -> Table:
        """A row per layer, and the totals."""
        size = f"input {self.input_size}, {self.total_parameters:,} parameters in the whole model"
        gain = f"{number(self.capacity_per_storage_bit, '.3g')} bits of capacity per bit of storage"
        stored = f"stored in {self.storage_bits:,} bits: {gain}"
        total = {"name": "total", "parameters": self.parameters, "capacity_bits": self.capacity_bits}
        return Table(
            COLUMNS, [asdict(layer) for layer in self.layers], f"{self.title}\n{size}",
            (stored, *(f"note: {note}" for note in self.notes)), total, self.title, "tab:capacity",
        )  # fmt: skip

    def plot(self, *, ax: "Axes | None" = None) -> "Figure":
        """Parameters, caps and capacity along the depth, in a figure of its own or in `ax`."""
        from capacity.depth import plot_depth

        title = f"{self.capacity_bits:,} bits, convention “{self.convention}”"
        return plot_depth([asdict(layer) for layer in self.layers], title=title, ax=ax)


def describe_scope(scope: str | Sequence[str]) -> str:
    """The scope as printed: 'all', 'trainable', or the named modules."""
    return scope if isinstance(scope, str) else ", ".join(scope)
