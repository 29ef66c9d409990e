"""sort_units(): hidden units in an order that needs no telling, so that `encode` writes a smaller file.

Hidden units have no order: a layer's rows can be exchanged with the columns that read from them. Sorted by
their own weights they stand as any reader would sort them, and the order in which `encode` writes them
holds log2(n!) bits of other content (see `compression.codec.row_orders`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import clone, plain_copy
from capacity.columns import KEY, Column
from capacity.errors import InputError
from capacity.inputs import require_weights, taking
from capacity.tables import Table, Tabular
from compression.codec.records import bit_patterns, plan_of, sortable
from compression.codec.row_orders import LEAST_BYTES, MOST_ELEMENTS, MOST_ROWS, row_order
from compression.shrinking.components import Component, Family
from compression.shrinking.emission import Axis
from compression.shrinking.removal import Removal, named_tensors
from compression.shrinking.slicing import responding_families
from compression.verification import outputs, probes, relative_difference, require_telling, tolerance

SECONDS = 45  # of finding which units can be exchanged
PASSES = 6  # over all layers, since sorting one moves the columns of others


@dataclass(frozen=True)
class SortedLayer:
    """A layer whose units stand in order, how many they are, and how many bytes their order holds."""

    name: str
    units: int
    free_bytes: int


COLUMNS = (
    Column("name", "layer", importance=KEY),
    Column("units", "units", style=",", importance=2),
    Column("free_bytes", "order holds", "bytes", style=",", importance=3),
)


@dataclass(frozen=True)
class SortResult(Tabular):
    """A model that computes the same with its hidden units sorted.

    `largest_difference` is how far its outputs lie from the model's on an example and on noise of several
    magnitudes, relative to their largest value: sums are added up in another order. `left_out` names layers
    whose units keep their order, and why.
    """

    model: nn.Module
    layers: tuple[SortedLayer, ...]
    largest_difference: float
    left_out: Mapping[str, str]

    def table(self) -> Table:
        """A row per sorted layer."""
        total = sum(layer.free_bytes for layer in self.layers)
        title = f"orders of units hold {total:,} bytes, outputs differ by {self.largest_difference:.2g}"
        notes = [f"not sorted: {name} ({why})" for name, why in self.left_out.items()]
        return Table(COLUMNS, [vars(layer) for layer in self.layers], title, notes, label="tab:sorted")


@torch.random.fork_rng()  # which networks that draw in evaluation mode would move on
def sort_units(model: nn.Module, input_size: Any) -> SortResult:
    """A copy of the model with hidden units in sorted order; `encode` then writes the smaller file.

    Those with most weights come first and those without any last. Whatever reads from the units is sorted
    along: columns of the next layers, biases, norms. Only layers of few values are sorted, whose order then
    holds eight bytes or more: `encode` makes no use of the order of others. Masks are folded first.

    Parameters
    ----------
    input_size: as for `capacity.measure`

    Each exchange is compared with the model, in double precision where it runs so, on an example and on
    noise; layers for which the outputs differ keep their order (`left_out`). Raises InputError for a model
    whose layers cannot be followed within 45 s.
    """
    require_weights(model)
    sorted_ = plain_copy(model).eval()
    inputs = probes(sorted_, input_size)
    with taking(sorted_, input_size):
        expected = outputs(sorted_, inputs)
    require_telling(expected)
    trial = Removal(_disturbed(clone(sorted_)), input_size, silent=True)
    families = responding_families(sorted_, trial, input_size, lambda axis: False, SECONDS)
    groups = [group for family in families if (group := _Group.of(family, sorted_))]
    moves, left_out = _settle(groups, plain := clone(sorted_)), dict[str, str]()
    if _change(trial, moves):
        left_out = {group.layer: why for group in groups if (why := _change(trial, [group.turned()]))}
        groups = [group for group in groups if group.layer not in left_out]
        moves = _settle(groups, plain := clone(sorted_))
        if why := _change(trial, moves):
            raise InputError(f"the units cannot be sorted: {why}")
    sorted_ = plain
    difference = relative_difference(expected, outputs(sorted_, inputs))
    if not difference <= tolerance(sorted_):
        raise InputError(f"sorting the units would move outputs by {difference:.2g} of their largest value")
    tensors = named_tensors(sorted_)
    layers = [SortedLayer(g.layer, len(g.places[g.carrier]), _held(tensors[g.carrier.name])) for g in groups]
    return SortResult(sorted_.train(model.training), tuple(layers), difference, left_out)


@dataclass(frozen=True)
class _Group:
    """Units that can be exchanged: for each axis the places of each, and the axis whose rows are sorted.

    places: axis -> (units, places of each)
    """

    carrier: Axis
    places: Mapping[Axis, Tensor]

    @classmethod
    def of(cls, family: Family, model: nn.Module) -> "_Group | None":
        """The group of a family; None where units differ in their places, or no order could hold much."""
        tensors = named_tensors(model)
        parts = [_by_axis(component) for component in family.components]
        if len({tuple((axis, len(places)) for axis, places in part.items()) for part in parts}) > 1:
            return None
        places = {axis: torch.tensor([part[axis] for part in parts]) for axis in parts[0]}
        best, most = None, LEAST_BYTES - 1
        for axis, rows in places.items():
            size = _rows_that_hold(tensors[axis.name]) if _covers(axis, rows, tensors[axis.name]) else 0
            best, most = (axis, size) if size > most else (best, most)
        return None if best is None else cls(best, places)

    @property
    def layer(self) -> str:
        """The layer whose rows are sorted."""
        return self.carrier.name.removesuffix(".weight")

    def order(self, model: nn.Module) -> Tensor:
        """The order of units that sorts the rows."""
        rows = _row_order(named_tensors(model)[self.carrier.name])
        return torch.argsort(self.places[self.carrier].flatten())[rows]

    def turned(self) -> tuple["_Group", Tensor]:
        """All units the other way round."""
        return self, torch.arange(len(self.places[self.carrier])).flip(0)

    @torch.no_grad()
    def exchange(self, model: nn.Module, order: Tensor) -> None:
        """Put the units in this order, in place."""
        tensors = named_tensors(model)
        for axis, places in self.places.items():
            tensor = tensors[axis.name]
            index = torch.arange(tensor.shape[axis.dimension])
            index[places.flatten()] = places[order].flatten()
            tensor.copy_(tensor.index_select(axis.dimension, index.to(tensor.device)))


def _by_axis(component: Component) -> dict[Axis, list[int]]:
    """The places of a unit, in order, by axis."""
    places: dict[Axis, list[int]] = {}
    for axis, place in sorted(component):
        places.setdefault(axis, []).append(place)
    return places


def _covers(axis: Axis, rows: Tensor, tensor: Tensor) -> bool:
    """Whether the units are the rows of a matrix, one each."""
    return axis.dimension == 0 and tensor.dim() > 1 and rows.shape == (tensor.shape[0], 1)


def _rows_that_hold(tensor: Tensor) -> int:
    """How many bytes of a file the order of a tensor's rows could hold, sorted."""
    if len(tensor) > MOST_ROWS or tensor.numel() > MOST_ELEMENTS:
        return 0
    return _held(tensor.detach()[_row_order(tensor)])


def _held(tensor: Tensor) -> int:
    return plan_of({"": tensor.detach()}, "").free_bytes


def _row_order(tensor: Tensor) -> Tensor:
    patterns = bit_patterns(tensor.detach())
    if patterns is None:
        return torch.arange(len(tensor))
    return torch.from_numpy(row_order(sortable(tensor, patterns)))


def _settle(groups: Sequence[_Group], model: nn.Module) -> list[tuple[_Group, Tensor]]:
    """Sort the units of all groups in place; the orders that they were put in, one after another.

    Sorting one moves the columns of others, whose rows may then stand in another order.
    """
    moves = list[tuple[_Group, Tensor]]()
    for _ in range(PASSES):
        before = len(moves)
        for group in groups:
            order = group.order(model)
            if bool((order != torch.arange(len(order))).any()):
                group.exchange(model, order)
                moves.append((group, order))
        if len(moves) == before:
            break
    return moves


def _change(trial: Removal, moves: Sequence[tuple[_Group, Tensor]]) -> str:
    """How the trial's outputs change when units are exchanged so, in words; it is left as it was."""
    for group, order in moves:
        group.exchange(trial.small, order)
    try:
        trial.check()
    except InputError as error:
        return str(error)
    finally:
        for group, order in reversed(moves):
            group.exchange(trial.small, torch.argsort(order))
    return ""


@torch.no_grad()
def _disturbed(model: nn.Module) -> nn.Module:
    """The model, in place, with other numbers, so that no unit that is silent hides a difference."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            spread = float(parameter.float().std()) if parameter.numel() > 1 else 0.0
            parameter.add_(noise * (0.1 + spread) * 0.1)
    return model
