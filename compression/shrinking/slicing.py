"""Components of units removed from the parameters that hold them, and the outcome compared.

The reference is the network as it was with zeros in all removed places: it emits zeros there and reads
nothing of them, so a unit that others feel, or one removed from the wrong place, shows as a difference.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import clone
from capacity.errors import InputError
from capacity.inputs import map_tensors, refusing
from compression.criteria import Criterion, unit_scores
from compression.shrinking.components import Component, Family, families
from compression.shrinking.coupling import rounded, units_of
from compression.shrinking.deadlines import time_limit
from compression.shrinking.emission import Axis
from compression.shrinking.removal import Removal, named_tensors
from compression.shrinking.repetition import Network
from compression.shrinking.sizes import MARK, Change, candidates, known_changes, subsets
from compression.verification import outputs, probes

BLOCKS = (8, 4)  # of units, that some kernels ask for
Lengths = dict[Axis, tuple[int, int]]


class Slicing(Removal):
    """A network before and after the removal of components."""

    def __init__(self, model: nn.Module, input_size: Any) -> None:
        super().__init__(model, input_size, silent=False)
        self.zeroed = clone(self.original)
        _jitter(self.zeroed)
        self.disturbed = named_tensors(clone(self.zeroed))
        self.gone: dict[Axis, set[int]] = {}
        self.changed: dict[tuple[str, str], Any] = {}
        self.helped: list[str] = []
        self._place(named_tensors(self.small), self.disturbed)

    def take(
        self,
        families: Sequence[tuple[Family, Sequence[Component]]],
        late: Callable[[], bool] = lambda: False,
    ) -> None:
        """Remove components of families; raises InputError, and leaves all as it was, if outputs differ.

        Sizes are tried until one fits or it is `late`.
        """
        nodes = [node for _, components in families for component in components for node in component]
        before = {axis: set(places) for axis, places in self.gone.items()}
        values = {
            name: t.detach().clone()
            for name, t in named_tensors(self.zeroed).items()
            if name in {a.name for a, _ in nodes}
        }
        for axis, place in nodes:
            self.gone.setdefault(axis, set()).add(place)
        self._place(named_tensors(self.small), self.disturbed, {axis.name for axis, _ in nodes})
        self._zero(nodes)
        error: InputError | None = None
        for changes in self._choices(families, before):
            if error is not None and late():
                break
            held = [(change, self._set(change)) for change in changes]
            try:
                self.check(quick=True)
                return self._mark(changes)
            except InputError as found:
                error = error or found
                for change, value in reversed(held):
                    setattr(self.small.get_submodule(change.module), change.attribute, value)
        self.gone = before
        self._place(named_tensors(self.small), self.disturbed, {axis.name for axis, _ in nodes})
        with torch.no_grad():
            for name, tensor in values.items():
                named_tensors(self.zeroed)[name].copy_(tensor)
        raise error or InputError("nothing was tried")

    def _choices(
        self, families: Sequence[tuple[Family, Sequence[Component]]], before: Mapping[Axis, set[int]]
    ) -> Any:
        """Sizes to try: those of the table, and others that fit, if it is one family."""
        lengths: Lengths = {}
        shapes = {name: t.shape for name, t in named_tensors(self.original).items()}
        for axis, places in self.gone.items():
            width = shapes[axis.name][axis.dimension]
            if places != before.get(axis):
                lengths[axis] = (width - len(before.get(axis, ())), width - len(places))
        known = known_changes(self.small, lengths)
        if len(families) > 1:
            return [known]
        family, gone = families[0]
        units = len(family.components), len(family.components) - len(gone)
        changes = candidates(self.small, lengths, units)
        return (known + some for some in subsets(changes, self.helped))

    def _set(self, change: Change) -> Any:
        module = self.small.get_submodule(change.module)
        value = getattr(module, change.attribute)
        setattr(module, change.attribute, change.value)
        return value

    def _mark(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.changed[change.module, change.attribute] = change.value
            if change.attribute not in self.helped:
                self.helped.append(change.attribute)

    def _place(
        self, into: Mapping[str, Tensor], source: Mapping[str, Tensor], names: Iterable[str] | None = None
    ) -> None:
        for name in source if names is None else names:
            tensor, old = source[name].detach(), into[name]
            for axis, places in self.gone.items():
                if axis.name == name and places:
                    left = [k for k in range(tensor.shape[axis.dimension]) if k not in places]
                    tensor = tensor.index_select(axis.dimension, torch.tensor(left, device=tensor.device))
            if old.shape == tensor.shape:
                old.data.copy_(tensor)
            else:
                _replace(self.small, old, tensor)

    @torch.no_grad()
    def _zero(self, nodes: Iterable[tuple[Axis, int]]) -> None:
        places: dict[Axis, list[int]] = {}
        for axis, place in nodes:
            places.setdefault(axis, []).append(place)
        tensors = named_tensors(self.zeroed)
        for axis, some in places.items():
            tensor = tensors[axis.name]
            if not axis.name.endswith("running_var"):
                tensor.index_fill_(axis.dimension, torch.tensor(some, device=tensor.device), 0)

    def _remember(self) -> None:
        """Sizes are set by `take`."""

    def _cut(self, inputs: Any) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Outputs of the disturbed network with zeros, and of the disturbed small one."""
        small = self._run_small(inputs)
        return outputs(self.zeroed, inputs), small

    def sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Units of layers before and after; also of parameters in no dense or convolutional layer."""
        before, after = units_of(self.original), units_of(self.small)
        shapes = {name: t.shape for name, t in named_tensors(self.original).items()}
        for axis, places in self.gone.items():
            name = axis.name.removesuffix(".weight")
            owner = self.original.get_submodule(axis.name.rpartition(".")[0])
            if len(shapes[axis.name]) > 1 and name not in before and not isinstance(owner, nn.Linear):
                before[name] = shapes[axis.name][axis.dimension]
                after[name] = before[name] - len(places)
        return before, after

    def finish(self) -> nn.Module:
        """The small network with the values, types and frozen parameters it had."""
        self._place(named_tensors(self.small), named_tensors(self.original))
        for module, attribute in self.changed:
            owner = self.small.get_submodule(module)
            setattr(owner, MARK, tuple(sorted({*getattr(owner, MARK, ()), attribute})))
        return super().finish()


def _replace(model: nn.Module, old: Tensor, values: Tensor) -> None:
    """Put a tensor where another is, under all its names."""
    new = values.clone()
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    for module in model.modules():
        for own, parameter in [*module._parameters.items(), *module._buffers.items()]:
            if parameter is old:
                setattr(module, own, new)


@torch.no_grad()
def _jitter(model: nn.Module) -> None:
    """Disturb scales and shifts, so that a zero scale hides no difference."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 1 and parameter.is_floating_point():
            parameter.add_(0.1 * (1 + torch.rand(parameter.shape, generator=generator).to(parameter)))


def responding_families(
    model: nn.Module, removal: Removal, input_size: Any, locked: Callable[[Axis], bool], seconds: float
) -> list[Family]:
    """Families of units of a model; raises InputError where they cannot be told apart within the time."""
    finding = "finding what responds to the units of each layer"
    with refusing(lambda reason: f"{finding} failed ({reason})"), time_limit(seconds, finding):
        return families(_network(model, removal, input_size), locked)


def _network(model: nn.Module, removal: Removal, input_size: Any) -> Network:
    """In single precision where the model has it, which is faster; else in that of the comparison.

    On the processor where the model runs there too: a GPU takes recurrent layers as a whole.
    """
    inputs = removal.inputs[0]
    if {p.dtype for p in model.parameters() if p.is_floating_point()} == {torch.float32}:
        inputs = probes(model, input_size)[0]
    else:
        model = removal.small
    if any(p.device.type != "cpu" for p in model.parameters()):
        with suppress(InputError, RuntimeError):  # code that names its device
            return Network(clone(model, device="cpu"), *map_tensors(inputs, Tensor.cpu))
    return Network(model, *inputs)


def scores_of(removal: Removal, family: Family, criterion: Criterion | None) -> list[float]:
    """What a criterion (by default squared weights) gives each component, over all weights that it holds."""
    chosen = torch.square if criterion is None else criterion
    tensors, cache, scores = named_tensors(removal.original), dict[Axis, list[float]](), []
    for component in family.components:
        total = 0.0
        for axis, place in component:
            weight = tensors[axis.name].detach()
            if weight.dim() < 2:
                continue
            if axis not in cache:
                units = unit_scores(chosen, weight, dimension=axis.dimension, names=(axis.name,))
                cache[axis] = units.tolist()
            total += cache[axis][place]
        scores.append(total)
    return scores


def lowest(family: Family, scores: Sequence[float], amount: float, multiple: int = 1) -> list[Component]:
    """Components of lowest scores that make up the amount; one stays.

    With a multiple, the most of them that leave a multiple of it on each axis that is written; none where
    no number does.
    """
    count = min(int(amount * len(scores)), len(scores) - 1)
    order = sorted(range(len(scores)), key=lambda k: scores[k])[:count]
    while order:
        gone = Counter(axis for k in order for axis, _ in family.components[k])
        if all((width - gone[axis]) % multiple == 0 for axis, width in family.written.items() if gone[axis]):
            break
        order.pop()
    return [family.components[k] for k in sorted(order)]


def unrounded(
    before: Mapping[str, int], after: Mapping[str, int], multiple: int, amounts: Mapping[str, float]
) -> dict[str, str]:
    """Layers whose number of units is no multiple, or stayed for want of one, and why.

    >>> unrounded({"a": 20, "b": 20}, {"a": 16, "b": 18}, 8, {})
    {'b': '18 units are no multiple of 8: what is coupled to it allows none'}
    >>> unrounded({"c": 12}, {"c": 12}, 8, {"c": 0.2})
    {'c': 'no multiple of 8 lies between 10 and 11 units'}
    """
    notes = {}
    for name, units in after.items():
        least = units - int(amounts.get(name, 0) * units)
        if units != before[name] and units % multiple:
            notes[name] = f"{units} units are no multiple of {multiple}: what is coupled to it allows none"
        elif units == before[name] and least < units and not rounded(units - least, units, multiple):
            notes[name] = f"no multiple of {multiple} lies between {least} and {units - 1} units"
    return notes


def shrunk_one_by_one(
    removal: Slicing,
    chosen: Sequence[tuple[Family, Sequence[float], Sequence[Component]]],
    left_out: dict[str, str],
    late: Callable[[], bool],
) -> None:
    """Take all families at once, else one by one, then fewer units of each; what cannot go is noted.

    Kernels that read rows of whole blocks of bytes want a multiple of units, which is tried where others
    fail.
    """
    some = [(family, components) for family, _, components in chosen if components]
    with suppress(InputError):
        if len(some) > 1:
            removal.take(some)
            return
    for family, scores, components in chosen:
        if not components:
            continue
        share = (len(components) + 0.5) / len(scores)
        fewer = [lowest(family, scores, share, multiple) for multiple in BLOCKS]
        tries = [components, *(less for less in fewer if less and len(less) < len(components))]
        error: InputError | None = None
        for gone in tries:
            try:
                if late():
                    raise InputError("it was not tried in time, because others failed")
                removal.take([(family, gone)], late)
                break
            except InputError as failure:
                error = error or failure
        else:
            names = dict.fromkeys(axis.name.removesuffix(".weight") for axis in family.written)
            left_out |= dict.fromkeys(names, str(error))
