"""Which places of which parameters go together: units, and what responds to them.

Products whose results meet in one read form a family. Each unit of a family gets a number; units are changed
by the bits of their numbers, so that a few passes tell which number each channel that is read hangs on.
Several ways to number are tried, by the widths that are read: one number for gate and value, or for all gates
of a recurrent step. Where channels still hang on several numbers (heads of attention, groups of a norm),
pieces of the units are changed one after another, and what hangs together is one component. Where all hangs
on all (layer norms over the width, softmax over classes) there is one component only, which cannot go.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.shrinking.emission import Axis, Range, Read
from compression.shrinking.repetition import Network

PIECES = 64  # of one axis, that are changed one after another
PASSES = 256  # of that kind
Node = tuple[Axis, int]  # a place of an axis
Component = frozenset[Node]


@dataclass(frozen=True)
class Family:
    """Axes written and read that belong together, and their components, each of which can go alone."""

    written: Mapping[Axis, int]
    components: tuple[Component, ...]


class Sets:
    """Disjoint sets of whatever can be a key, merged one by one."""

    def __init__(self) -> None:
        self.parents: dict[object, object] = {}

    def root(self, key: object) -> object:
        """What stands for the set of a key."""
        self.parents.setdefault(key, key)
        while self.parents[key] != key:
            self.parents[key] = key = self.parents[self.parents[key]]
        return key

    def merge(self, keys: Iterable[object]) -> None:
        """Make one set of the sets of all keys."""
        first: object = None
        for key in keys:
            first = self.root(key) if first is None else first
            self.parents[self.root(key)] = self.root(first)


@dataclass
class _Draft:
    """A family whose components are being found."""

    written: dict[Axis, int]
    reads: list[int]  # places among the reads of a pass

    def widths(self, reads: Sequence[Read]) -> list[int]:
        """Numbers of channels that products read, by which units are numbered."""
        seen = {len(reads[k].values) for k in self.reads if reads[k].by_product}
        divisors = [w for w in seen if all(n <= w or n % w == 0 for n in self.written.values())]
        return sorted({*divisors, max(self.written.values())}, reverse=True)


def families(network: Network, locked: Callable[[Axis], bool]) -> list[Family]:
    """Families of units that can be told apart; those that reach an output or are locked are left out."""
    complete, drafts = _separated(network, _drafts(network, locked))
    narrowed = _narrowed(network, drafts)
    more, rest = _separated(network, [draft for draft, same in narrowed if not same])
    complete += more + _pieced(network, rest + [draft for draft, same in narrowed if same])
    return [f for f in _recurrent(network.model, _joined(complete)) if len(f.components) > 1]


def _separated(network: Network, drafts: list[_Draft]) -> tuple[list[Family], list[_Draft]]:
    """Families found by one way or another to number their units, and the drafts for which none does."""
    complete, reads = list[Family](), network.plain.reads
    for trial in range(max((len(draft.widths(reads)) for draft in drafts), default=0)):
        modules = {k: some[trial] for k, d in enumerate(drafts) if len(some := d.widths(reads)) > trial}
        numbers = _decode(network, drafts, modules)
        clear = {k for k in modules if _clear(network, drafts[k], numbers)}
        complete += [_numbered(network, drafts[k], modules[k], numbers) for k in sorted(clear)]
        drafts = [draft for k, draft in enumerate(drafts) if k not in clear]
    return complete, drafts


def _narrowed(network: Network, drafts: Sequence[_Draft]) -> list[tuple[_Draft, bool]]:
    """Drafts without the axes of which each unit moves all that a product reads; whether it lost none.

    Such an axis keeps its units; those beside it may go.
    """
    spread: list[set[Axis]] = [set() for _ in drafts]
    for turn in range(max((len(draft.written) for draft in drafts), default=0)):
        now = {k: list(d.written.items())[turn] for k, d in enumerate(drafts) if turn < len(d.written)}
        first = {axis: torch.arange(width) < max(1, width // PIECES) for axis, width in now.values()}
        for changed in (first, {axis: units.flip(0) for axis, units in first.items()}):  # and the last ones
            answer = network.hits(changed)
            for k, (axis, _) in now.items():
                if any(network.plain.reads[r].by_product and bool(answer[r].all()) for r in drafts[k].reads):
                    spread[k].add(axis)
    left = [
        _Draft({axis: width for axis, width in draft.written.items() if axis not in some}, draft.reads)
        for draft, some in zip(drafts, spread, strict=True)
    ]
    return [(draft, not some) for draft, some in zip(left, spread, strict=True) if draft.written]


def _joined(parts: Sequence[Family]) -> list[Family]:
    """Families as they are, but one where several hold places of the same axis."""
    sets = Sets()
    for k, family in enumerate(parts):
        sets.merge([k, *{axis for component in family.components for axis, _ in component}])
    groups: dict[object, list[Family]] = {}
    for k, family in enumerate(parts):
        groups.setdefault(sets.root(k), []).append(family)
    return [
        some[0]
        if len(some) == 1
        else Family(
            {axis: width for family in some for axis, width in family.written.items()},
            _merged(component for family in some for component in family.components),
        )
        for some in groups.values()
    ]


def _drafts(network: Network, locked: Callable[[Axis], bool]) -> list[_Draft]:
    record, sets = network.plain, Sets()
    for read in record.reads:
        if read.by_product:
            sets.merge([*sorted(read.products), *({read.range.axis} & record.written.keys())])
    drafts: dict[object, _Draft] = {}
    for axis, width in record.written.items():
        drafts.setdefault(sets.root(axis), _Draft({}, [])).written[axis] = width
    for place, read in enumerate(record.reads):
        for root in {sets.root(axis) for axis in read.products}:
            drafts[root].reads.append(place)
    spoiled = record.fixed | record.reached
    return [
        draft
        for draft in drafts.values()
        if not any(axis in spoiled or locked(axis) for axis in draft.written)
        and not any(
            record.reads[k].by_product and record.reads[k].range.axis in record.fixed for k in draft.reads
        )
        and any(record.reads[k].by_product for k in draft.reads)
    ]


def _decode(network: Network, drafts: Sequence[_Draft], modules: Mapping[int, int]) -> dict[int, Tensor]:
    """For each read, the number each channel hangs on: -1 none, -2 several."""
    reads = network.plain.reads
    numbers = {k: torch.full((len(read.values),), -1) for k, read in enumerate(reads)}
    codes = {
        axis: torch.arange(width) % modules[k]
        for k, draft in enumerate(drafts)
        if k in modules
        for axis, width in draft.written.items()
    }
    for bit in range(max((m - 1 for m in modules.values()), default=0).bit_length() or 1):
        ones = {axis: (code >> bit) % 2 == 1 for axis, code in codes.items()}
        high = network.hits(ones)
        low = network.hits({axis: ~units for axis, units in ones.items()})
        for k, known in numbers.items():
            number = torch.where(high[k], known.clamp(min=0) | (1 << bit), known.clamp(min=0))
            new = torch.where(high[k] | low[k], number, known)
            new[(high[k] & low[k]) | (known == -2)] = -2
            numbers[k] = new
    return numbers


def _clear(network: Network, draft: _Draft, numbers: Mapping[int, Tensor]) -> bool:
    return not any(bool((numbers[k] == -2).any()) for k in draft.reads if network.plain.reads[k].by_product)


def _numbered(network: Network, draft: _Draft, module: int, numbers: Mapping[int, Tensor]) -> Family:
    groups: dict[int, set[Node]] = {}
    for axis, width in draft.written.items():
        for unit in range(width):
            groups.setdefault(unit % module, set()).update(_unit(network, axis, unit))
    for k in draft.reads:
        range_, channels = network.plain.reads[k].range, numbers[k].tolist()
        if -2 not in channels:
            for channel, number in enumerate(channels):
                if number >= 0:
                    groups[number].add((range_.axis, range_.start + channel))
    return Family(draft.written, _merged(groups.values()))


def _unit(network: Network, axis: Axis, unit: int) -> list[Node]:
    return [(axis, unit), *((rider, unit) for rider in network.plain.riders.get(axis, ()))]


def _merged(groups: Iterable[Iterable[Node]]) -> tuple[Component, ...]:
    sets, nodes = Sets(), dict[Node, None]()
    for group in groups:
        members = sorted(group)
        sets.merge(members)
        nodes |= dict.fromkeys(members)
    merged: dict[object, list[Node]] = {}
    for node in nodes:
        merged.setdefault(sets.root(node), []).append(node)
    return tuple(sorted(map(frozenset, merged.values()), key=min))


def _pieced(network: Network, drafts: Sequence[_Draft]) -> list[Family]:
    """Components found by changing one piece of each family after another.

    Where all hangs together, it may be by a table that the model holds, in which units meet that are apart in
    the data: angles of positions, which all heads of attention are turned by. The table then stays as it is.
    """
    pieces = [_pieces(draft) for draft in drafts]
    hits: list[list[list[Node]]] = [[] for _ in drafts]
    tables = {name for name, _ in network.model.named_buffers()}
    undivided = {k for k, some in enumerate(pieces) if not 1 < len(some) <= PASSES}
    for turn in range(max((len(some) for some in pieces), default=0)):
        now = {k: some[turn] for k, some in enumerate(pieces) if turn < len(some) and k not in undivided}
        if not now:
            break
        changed = {}
        for k, (axis, units) in now.items():
            changed[axis] = torch.zeros(drafts[k].written[axis], dtype=torch.bool)
            changed[axis][units] = True
        answer = network.hits(changed)
        for k, (axis, units) in now.items():
            nodes = [node for unit in units for node in _unit(network, axis, unit)]
            for place in drafts[k].reads:
                read, hit = network.plain.reads[place], answer[place]
                if bool(hit.all()) and read.by_product:
                    undivided.add(k)
                elif not bool(hit.all()):
                    nodes += _channels(read.range, hit)
            hits[k].append(nodes)
    complete = []
    for k, draft in enumerate(drafts):
        if k not in undivided and hits[k]:
            merged = _merged(hits[k])
            if len(merged) == 1:
                merged = _merged([[node for node in some if node[0].name not in tables] for some in hits[k]])
            complete.append(Family(draft.written, merged))
    return complete


def _channels(range_: Range, hit: Tensor) -> list[Node]:
    return [(range_.axis, range_.start + channel) for channel in hit.nonzero().flatten().tolist()]


def _pieces(draft: _Draft) -> list[tuple[Axis, list[int]]]:
    """Runs of units, by powers of two, so that they end where heads and groups do."""
    runs = []
    for axis, width in draft.written.items():
        size = 1
        while width / size > PIECES and width % (2 * size) == 0:
            size *= 2
        runs += [(axis, list(range(k, min(k + size, width)))) for k in range(0, width, size)]
    return runs


def _recurrent(model: nn.Module, families: Sequence[Family]) -> list[Family]:
    """Families as they are, but one for all layers and directions of a recurrent module: it has one width."""
    owners = {
        f"{name}.{own}": name
        for name, module in model.named_modules()
        if isinstance(module, nn.RNNBase)
        for own, _ in module.named_parameters(recurse=False)
        if "_hh_" in own
    }
    alone, together = list[Family](), dict[str, list[Family]]()
    for family in families:
        names = {owners[axis.name] for axis in family.written if axis.name in owners}
        if names:
            together.setdefault(min(names), []).append(family)
        else:
            alone.append(family)
    for name, some in together.items():
        directions = sum(axis.name in owners for f in some for axis in f.written)
        counts = {len(family.components) for family in some}
        if len(counts) == 1 and directions == sum(
            owner == name for key, owner in owners.items() if "weight" in key
        ):
            written = {axis: width for family in some for axis, width in family.written.items()}
            merged = zip(*(family.components for family in some), strict=True)
            alone.append(Family(written, tuple(frozenset().union(*parts) for parts in merged)))
    return alone
