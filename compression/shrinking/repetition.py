"""One network passed again and again with other units changed: which channels move.

The first pass notes every operation (`emission`). Those behind it only do what it noted, step by step, and
compare what is read; one that does anything else notes everything itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from capacity.cloning import clone
from capacity.seeding import seed_generators
from compression.dataflow import tensors_of
from compression.shrinking.emission import (
    Axis,
    Bases,
    Drawn,
    Emission,
    Record,
    moved,
    numbers,
    operands,
    place_of,
    shapes,
)


class Diverged(Exception):
    """A pass does other operations than the one that it repeats."""


class Repetition(TorchDispatchMode):
    """A pass known step by step, with other numbers at `changed` units; its reads are compared with those.

    Raises Diverged at the first operation, or the first shape of what is emitted or read, that is another.
    """

    def __init__(self, plain: Record, drawn: Mapping[int, Drawn], changed: Mapping[Axis, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drawn, self.changed = drawn, changed
        self.steps, self.reads = iter(plain.steps), iter(plain.reads)
        self.hits: list[Tensor] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry an operation out, or emit in its place."""
        step = next(self.steps, None)
        if step is None or step.name != func.overloadpacket.__name__:
            raise Diverged
        if step.looks:
            given, seen = operands(args, kwargs), dict[int, tuple[Tensor, Tensor | None]]()
            for place, dimension in step.looks:
                read, data = next(self.reads), given[place]
                if len(read.values) != data.shape[dimension]:
                    raise Diverged
                self.hits.append(moved(read, data, dimension, seen))
        if step.emitted is None:
            return func(*args, **(kwargs or {}))
        self.count += 1
        known = self.drawn[self.count]
        if known.given != shapes(step.emitted.product, args):
            raise Diverged
        emitted = numbers(known, step.emitted, self.changed)
        return emitted if step.emitted.alone else (emitted, *func(*args, **(kwargs or {}))[1:])


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Within it, recurrent layers are steps of products; in single precision oneDNN takes them as a whole."""
    settings: Any = torch.backends.mkldnn
    before = settings.enabled
    settings.enabled = False
    try:
        yield
    finally:
        settings.enabled = before


@torch.no_grad()
def _awake(model: nn.Module) -> nn.Module:
    """The model, in place, with positive scales and shifts: no unit sleeps behind a rectifier."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 1 and parameter.is_floating_point():
            parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.zero_()
    return model


class Network:
    """A copy of a model and one input, passed again and again with other units changed."""

    def __init__(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        self.model, self.args, self.kwargs = _awake(clone(model)), args, kwargs
        self.drawn: dict[int, Drawn] = {}
        self.plain = self._pass({}, None)

    def _pass(self, changed: Mapping[Axis, Tensor], plain: Record | None) -> Record:
        emission = Emission(Bases.of(self.model), self.drawn, changed, plain)
        results = self._run(emission)
        emission.record.reached = frozenset().union(
            *(emission.behind.get(place_of(t), frozenset()) for t in results if t.numel())
        )
        return emission.record

    def _run(self, mode: TorchDispatchMode) -> list[Tensor]:
        """The tensors that the model returns in this mode."""
        with torch.no_grad(), torch.random.fork_rng(), _without_onednn(), mode:
            seed_generators(0)
            return tensors_of(self.model(*self.args, **self.kwargs))

    def hits(self, changed: Mapping[Axis, Tensor]) -> list[Tensor]:
        """For each read of the plain pass, which of its channels move when units change."""
        repetition = Repetition(self.plain, self.drawn, changed)
        try:
            self._run(repetition)
            hits = repetition.hits
        except Diverged:
            hits = self._pass(changed, self.plain).hits
        if len(hits) != len(self.plain.reads):
            return [torch.ones(len(read.values), dtype=torch.bool) for read in self.plain.reads]
        return hits
