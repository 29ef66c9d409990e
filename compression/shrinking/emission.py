"""What every product with a parameter reads and writes in a forward pass, and random numbers in its place.

Operations are seen as ATen carries them out, whatever module or function asked for them: a dense layer, a
convolution, one expert of a packed parameter, a step of a recurrent layer. `PRODUCTS` is the table of
operations that multiply by a parameter; another one is added by a line (`Product`). Each such product emits
random numbers, other ones for units that are to change; what hangs on them shows where products read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compression.dataflow import FRESH


class Axis(NamedTuple):
    """One dimension of one parameter or buffer, by its name in the model."""

    name: str
    dimension: int


class Range(NamedTuple):
    """Places of an axis, as a view of the parameter holds them: from `start` on."""

    axis: Axis
    start: int


@dataclass(frozen=True)
class Product:
    """Arguments of an operation, and which of their dimensions meet in it.

    `read` pairs the dimension of the data that is summed over with that of the weight, None where none is
    (a table looked up); `written` pairs that of the result with that of the weight.
    """

    data: int
    weight: int
    read: tuple[int, int] | None
    written: tuple[int, int]
    bias: int | None = None


PRODUCTS: dict[str, tuple[Product, ...]] = {
    "mm": (Product(0, 1, (1, 0), (1, 1)), Product(1, 0, (0, 1), (0, 0))),
    "addmm": (Product(1, 2, (1, 0), (1, 1), 0), Product(2, 1, (0, 1), (0, 0))),
    "mv": (Product(1, 0, (0, 1), (0, 0)),),
    "bmm": (Product(0, 1, (2, 1), (2, 2)), Product(1, 0, (1, 2), (1, 1))),
    "baddbmm": (Product(1, 2, (2, 1), (2, 2), 0), Product(2, 1, (1, 2), (1, 1))),
    "_grouped_mm": (Product(0, 1, (1, 1), (1, 2)),),
    "embedding": (Product(1, 0, None, (-1, 1)),),
    "_embedding_bag": (Product(1, 0, None, (-1, 1)),),
    "_embedding_bag_forward_only": (Product(1, 0, None, (-1, 1)),),
    "convolution": (Product(0, 1, (1, 1), (1, 0), 2),),
}
TRANSPOSED = Product(0, 1, (1, 0), (1, 1), 2)
SAMPLE = 512  # places of a channel that are looked at
BY_CHANNEL = ("batch_norm", "group_norm")  # their parameters lie along dimension 1, whatever follows


@dataclass
class Bases:
    """Which storages hold parameters, or what was made of one alone with its shape."""

    held: dict[int, tuple[str, tuple[int, ...], tuple[int, ...], tuple[int | None, ...]]]
    alive: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, model: nn.Module) -> "Bases":
        """The parameters and buffers of a model, by their first names."""
        bases = cls({})
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.numel() and tensor.is_floating_point():
                bases.add(tensor, name, tuple(range(tensor.dim())))
        return bases

    def add(self, tensor: Tensor, name: str, dimensions: Sequence[int | None]) -> None:
        """Note that a tensor is the parameter of this name, its dimensions being those of the parameter."""
        self.held.setdefault(
            place_of(tensor), (name, tuple(tensor.shape), tensor.stride(), tuple(dimensions))
        )
        self.alive.append(tensor)

    def ranges(self, tensor: Any) -> list[Range | None] | None:
        """For each dimension of a view of a parameter, the axis and place it starts at; None for data."""
        if not isinstance(tensor, Tensor) or not tensor.numel() or place_of(tensor) not in self.held:
            return None
        name, shape, strides, dimensions = self.held[place_of(tensor)]
        starts, left = dict[int, int](), int(tensor.storage_offset())
        for k in sorted(range(len(strides)), key=lambda k: -strides[k]):
            starts[k], left = divmod(left, strides[k]) if strides[k] else (0, left)
        ranges_: list[Range | None] = []
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            fits = [k for k in starts if strides[k] == stride and size <= shape[k] and shape[k] > 1]
            dimension = dimensions[fits[0]] if len(fits) == 1 else None
            ranges_.append(None if dimension is None else Range(Axis(name, dimension), starts[fits[0]]))
        return ranges_


def place_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Read(NamedTuple):
    """What a product, or an operation beside a parameter, saw along an axis."""

    range: Range
    values: Tensor  # the channels first, and places of each
    products: frozenset[Axis]  # whose results it descends from, with no product between
    by_product: bool


class Emitted(NamedTuple):
    """What a product put out: from which place of its axis on, along which dimension of the result."""

    product: Product
    axis: Axis
    start: int
    dimension: int
    dtype: torch.dtype
    alone: bool  # the result is this tensor, and no tuple


@dataclass
class Step:
    """One operation of a pass: what it emits if it is a product, and where it reads along an axis.

    `looks` are the places of the data among the operation's tensors, and the dimension that is read.
    """

    name: str
    emitted: Emitted | None = None
    looks: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Record:
    """One pass: what was read, which axes were written, and what the outputs descend from."""

    steps: list[Step] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    hits: list[Tensor] = field(default_factory=list)  # channels of each read that another pass saw otherwise
    written: dict[Axis, int] = field(default_factory=dict)  # and their width
    riders: dict[Axis, set[Axis]] = field(default_factory=dict)  # biases of products
    fixed: set[Axis] = field(default_factory=set)  # of which no single unit can go
    reached: frozenset[Axis] = frozenset()


class Drawn(NamedTuple):
    """Two choices of numbers that a product emits, for data of a shape."""

    plain: Tensor
    other: Tensor
    given: tuple[torch.Size, torch.Size]


class Emission(TorchDispatchMode):
    """A pass in which products emit random numbers, and other ones at `changed` units of an axis.

    With the record of another pass, its reads are compared with those of this one.
    """

    def __init__(
        self, bases: Bases, drawn: dict[int, Drawn], changed: Mapping[Axis, Tensor], plain: Record | None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bases, self.drawn, self.changed, self.plain = bases, drawn, changed, plain
        self.record = Record()
        self.behind: dict[int, frozenset[Axis]] = {}
        self.count = 0
        self.seen: dict[int, tuple[Tensor, Tensor | None]] = {}  # of one operation, by dimension

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry an operation out, or emit in its place."""
        name = func.overloadpacket.__name__
        product = self._product(name, args)
        self.seen = {}
        self.record.steps.append(Step(name))
        known = None if product is None else self.drawn.get(self.count + 1)
        alone = not name.startswith("_embedding_bag")  # whose result is a tuple
        if product and alone and known is not None and known.given == shapes(product, args):
            weight = args[product.weight]
            result: Any = torch.empty(known.plain.shape, dtype=weight.dtype, device=weight.device)
        else:
            result = func(*args, **(kwargs or {}))
        given = operands(args, kwargs)
        behind = frozenset().union(*(self.behind.get(place_of(t), frozenset()) for t in given))
        if name in FRESH:
            behind = frozenset()
        if product is not None:
            result, behind = self._emit(product, args, given, result)
        else:
            self._note_beside(name, given, result, behind)
        places = {place_of(t) for t in given}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                place = place_of(tensor)
                self.behind[place] = behind | (
                    self.behind.get(place, frozenset()) if place in places else set()
                )
        if name == "copy_" or name.endswith("_"):
            self.behind[place_of(given[0])] = behind
        return result

    def _product(self, name: str, args: Any) -> Product | None:
        """What multiplies data by a parameter whose dimensions are known; None for another operation."""
        options = PRODUCTS.get(name, ())
        if name == "convolution":
            if args[8] > 1 and args[1].shape[1] == 1 and args[8] == args[0].shape[1] == args[1].shape[0]:
                return None  # every channel by itself
            options = (TRANSPOSED,) if args[6] else options
        for option in options:
            ranges = self.bases.ranges(args[option.weight])
            if ranges is None or ranges[option.written[1]] is None:
                continue
            if option.read is None or ranges[option.read[1]] is not None:
                return option
        return None

    def _emit(
        self, product: Product, args: Any, given: list[Tensor], result: Any
    ) -> tuple[Any, frozenset[Axis]]:
        ranges = self.bases.ranges(args[product.weight]) or []
        start = ranges[product.written[1]]
        assert start is not None
        axis, output = start.axis, result[0] if isinstance(result, tuple) else result
        grouped = len(args) > 8 and args[8] > 1
        if product.read is not None:
            read = ranges[product.read[1]]
            assert read is not None
            if grouped:
                self.record.fixed |= {axis, read.axis}
            self._read(read, given, args[product.data], product.read[0], by_product=True)
        width = output.shape[product.written[0]]
        self.record.written[axis] = max(self.record.written.get(axis, 0), start.start + width)
        bias = None if product.bias is None else self.bases.ranges(args[product.bias])
        for rider in bias or ():
            if rider is not None:
                self.record.riders.setdefault(axis, set()).add(rider.axis)
        self._draw(output, shapes(product, args))
        alone = isinstance(result, Tensor)
        emits = Emitted(product, axis, start.start, product.written[0], output.dtype, alone)
        self.record.steps[-1].emitted = emits
        emitted = numbers(self.drawn[self.count], emits, self.changed)
        outputs = (emitted, *result[1:]) if isinstance(result, tuple) else emitted
        return outputs, frozenset((axis,))

    def _draw(self, output: Tensor, given: tuple[torch.Size, torch.Size]) -> None:
        self.count += 1
        known = self.drawn.get(self.count)
        if known is None or known.plain.shape != output.shape:
            generator = torch.Generator().manual_seed(self.count)
            pair = [torch.rand(output.shape, generator=generator).to(output.device) + 0.1 for _ in range(2)]
            self.drawn[self.count] = Drawn(pair[0], pair[1], given)

    def _read(
        self, range_: Range, given: list[Tensor], data: Tensor, dimension: int, *, by_product: bool
    ) -> None:
        place = len(self.record.hits if self.plain else self.record.reads)
        if self.plain is None:
            place_of_data = next(k for k, tensor in enumerate(given) if tensor is data)
            self.record.steps[-1].looks.append((place_of_data, dimension))
            if dimension not in self.seen:
                self.seen[dimension] = _sampled(data, dimension).clone(), None
            behind = self.behind.get(place_of(data), frozenset())
            self.record.reads.append(Read(range_, self.seen[dimension][0], behind, by_product))
            return
        before = self.plain.reads[place] if place < len(self.plain.reads) else None
        if before is None or before.range != range_ or len(before.values) != data.shape[dimension]:
            self.record.hits.append(torch.ones(data.shape[dimension], dtype=torch.bool))
            return
        self.record.hits.append(moved(before, data, dimension, self.seen))

    def _note_beside(self, name: str, given: list[Tensor], result: Any, behind: frozenset[Axis]) -> None:
        """Note parameters beside data (scales, shifts, norms), and what is made of a parameter alone."""
        marked = [(tensor, self.bases.ranges(tensor)) for tensor in given]
        data = [t for t, ranges in marked if ranges is None and place_of(t) in self.behind and t.dim()]
        if not data:
            self._note_made(name, marked, result)
            return
        widest = max(data, key=lambda t: (t.dim(), t.numel()))
        for tensor, ranges in marked:
            for k, range_ in enumerate(ranges or ()):
                dimension = k - tensor.dim()
                if any(kind in name for kind in BY_CHANNEL) or name == "convolution":
                    dimension = 1 - widest.dim() if k == 0 else -widest.dim() - 1
                fits = -dimension <= widest.dim() and widest.shape[dimension] == tensor.shape[k]
                if range_ is not None and fits:
                    self._read(range_, given, widest, dimension, by_product=False)

    def _note_made(self, name: str, marked: Any, result: Any) -> None:
        """A tensor made of one parameter alone, of its shape or a choice of its first dimension."""
        bases = [(tensor, ranges) for tensor, ranges in marked if ranges is not None]
        if len(bases) != 1 or not isinstance(result, Tensor) or self.bases.ranges(result) is not None:
            return
        tensor, ranges = bases[0]
        known = [None if r is None or r.start else r.axis for r in ranges]
        if name in ("index", "index_select") and result.dim() == tensor.dim() > 1:
            known[0] = None
            same = result.shape[1:] == tensor.shape[1:]
        else:
            same = result.shape == tensor.shape
        names = {axis.name for axis in known if axis is not None}
        if same and len(names) == 1 and result.numel():
            self.bases.add(result, names.pop(), [None if a is None else a.dimension for a in known])


def operands(args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors among an operation's arguments."""
    return [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]


def numbers(drawn: Drawn, emitted: Emitted, changed: Mapping[Axis, Tensor]) -> Tensor:
    """What a product emits: its plain numbers, and the others at changed units."""
    plain, units = drawn.plain, changed.get(emitted.axis)
    if units is None:
        return plain.to(emitted.dtype, copy=True)
    shape = [1] * plain.dim()
    shape[emitted.dimension] = -1
    here = units[emitted.start : emitted.start + plain.shape[emitted.dimension]]
    return torch.where(here.reshape(shape).to(plain.device), drawn.other, plain).to(emitted.dtype)


def moved(
    before: Read, data: Tensor, dimension: int, seen: dict[int, tuple[Tensor, Tensor | None]]
) -> Tensor:
    """Which channels are not as a read saw them; `seen` is what is known of one operation, by dimension."""
    held, hit = seen.get(dimension, (None, None))
    if held is not before.values or hit is None:
        now = _sampled(data, dimension)
        same = now.shape == before.values.shape
        hit = (now != before.values).any(1).cpu() if same else torch.ones(len(now), dtype=torch.bool)
        seen[dimension] = before.values, hit
    return hit


def shapes(product: Product, args: Any) -> tuple[torch.Size, torch.Size]:
    """Of the data and of the weight of a product."""
    return args[product.data].shape, args[product.weight].shape


def _sampled(data: Tensor, dimension: int) -> Tensor:
    """(channels, places): some places of every channel, the same ones for data of a shape; perhaps a view."""
    moved = data.movedim(dimension, 0)
    rest = moved.shape[1:]
    if rest.numel() <= SAMPLE:
        return moved.flatten(1) if rest else moved.unsqueeze(1)
    places: list[Any] = [slice(None), *_places(rest, data.device)]
    return moved[tuple(places)]


@lru_cache(maxsize=256)
def _places(shape: torch.Size, device: torch.device) -> tuple[Tensor, ...]:
    """Indices of SAMPLE places, by the shape alone."""
    generator = torch.Generator().manual_seed(shape.numel())
    chosen = torch.randint(shape.numel(), (SAMPLE,), generator=generator)
    return torch.unravel_index(chosen.to(device), shape)
