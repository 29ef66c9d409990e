"""Which layers feed which, found by dyeing: one forward pass, no graph tracer, no weights in memory.

Raw input and the output of every counted layer are each multiplied by a scalar of their own that requires
a gradient, the output after being cut from what came before. At the next layer, autograd's own bookkeeping
then leads from the layer's input back to exactly the scalars it descends from. The factor is a product
rather than a leaf so that in-place activations stay legal.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from capacity.errors import InputError
from capacity.inputs import map_tensors, tensors_in
from capacity.layers import Layer
from capacity.structure import Structure

RAW = None  # the source of data that passed through no counted layer

Layers = Mapping[str, tuple[Layer, nn.Module]]
Visit = Callable[[Layer, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@dataclass
class Trace:
    """What reached one layer, and what left it, summed over its calls; elements are per sample."""

    raw: bool = False
    entering_elements: int = 0
    leaving_elements: int = 0
    sources: dict[str, None] = field(default_factory=dict)  # names of the layers that feed it, in order
    called: bool = True
    untraced: int = 0  # input elements that came from nowhere: constants, or the model detached them
    followed: bool = True  # whether it is known where these came from
    moved: bool = False  # only that its inputs change with the data is known, not which of them

    def enter(self, tensor: Tensor, sources: Mapping[str | None, None], batch: int) -> None:
        """Note a tensor that reached the layer, which carries these dyes."""
        if RAW in sources or not _carries(tensor):
            self.raw = True
        elif sources:
            self.entering_elements += tensor.numel() // batch
        else:
            self.untraced += tensor.numel() // batch
        self.sources.update({name: None for name in sources if name is not RAW})


@contextmanager
def intercepted(layers: Layers, visit: Visit) -> Iterator[None]:
    """Within it, each layer's forward is `visit(layer, forward, args, kwargs)` (on a copy of a model)."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    own = {name: module.__dict__.get("forward") for name, (_, module) in layers.items()}
    for layer, module in layers.values():
        forward = module.forward

        def call(*args: Any, _layer: Layer = layer, _forward: Any = forward, **kwargs: Any) -> Any:
            return visit(_layer, _forward, args, kwargs)

        module.forward = call
    try:
        with unchecked_distributions():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for name, (_, module) in layers.items():
            del module.forward
            if own[name] is not None:
                module.__dict__["forward"] = own[name]


def trace(
    model: nn.Module, layers: Layers, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Trace]:
    """One dyed forward pass; a Trace for each layer that was called, in order of first execution.

    Layers whose weights are used without calling them (F.linear(x, self.layer.weight)) get a Trace with
    `called` False: their parameters are dyes too, which only such a use lets out of their layer.
    """
    dyes = _parameter_dyes(layers)
    used: dict[str | None, None] = {}
    traces: dict[str, Trace] = {}
    batch = batch_size(args, kwargs)

    def dyed(tensor: Tensor, name: str | None) -> Tensor:
        if not _carries(tensor):
            return tensor
        with torch.enable_grad():
            dye = torch.ones((), dtype=tensor.dtype, device=tensor.device, requires_grad=True)
            dyes[dye] = name
            return _product(tensor.detach(), dye)

    def visit(
        layer: Layer, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        note = traces.setdefault(layer.name, Trace())
        for tensor in tensors_in((args, kwargs)):
            sources = _sources(tensor, dyes)
            used.update(sources)
            note.enter(tensor, sources, batch)
        output = forward(*args, **kwargs)
        note.leaving_elements += sum(tensor.numel() for tensor in _emitted(layer, output)) // batch
        return output if layer.container else map_tensors(output, partial(dyed, name=layer.name))

    with torch.enable_grad(), intercepted(counted(layers), visit):
        raw = partial(dyed, name=RAW)
        output = model(*map_tensors(args, raw), **map_tensors(kwargs, raw))
    if not tensors_in(output):
        raise InputError(f"the model returned no tensor but {type(output).__name__}; nothing can be measured")
    for tensor in tensors_in(output):
        used.update(_sources(tensor, dyes))
    for name in used:
        if name is not RAW and name not in traces:
            traces[name] = Trace(called=False)
    return traces


def _product(tensor: Tensor, dye: Tensor) -> Tensor:
    """Their product; on the meta device, where it has no values, without working its shape out again."""
    if tensor.is_meta and type(tensor) is Tensor:
        with suppress(RuntimeError):  # within a transform of torch.func
            product: Tensor = _HollowProduct.apply(tensor, dye)
            return product
    return tensor * dye


class _HollowProduct(torch.autograd.Function):
    """A tensor times a scalar, both without memory, with the gradients that multiplication has."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, dye: Tensor) -> Tensor:
        ctx.save_for_backward(tensor, dye)
        return tensor.data

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        tensor, dye = ctx.saved_tensors
        return gradient * dye.conj(), (gradient * tensor.conj()).sum()


def _parameter_dyes(layers: Layers) -> dict[Tensor, str | None]:
    """The parameters of layers that are called themselves, each a dye of its layer's name."""
    return {
        parameter.requires_grad_(): name
        for name, (layer, module) in counted(layers).items()
        for parameter in module.parameters()
        if not layer.container and _carries(parameter)
    }


def reached_by(
    raw: bool, model: nn.Module, layers: Layers, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, int]:
    """Per layer, the input elements per sample that raw data (or counted outputs) reach, found with NaN.

    Slower than `trace`, and on real memory, but NaN survives what gradients do not: detach, no_grad,
    a way through numpy.
    """
    reached = reached_elements(raw, model, layers, args, kwargs)
    batch = batch_size(args, kwargs)
    return {name: sum(int(m.sum()) for m in marks) // batch for name, marks in reached.items()}


def reached_elements(
    raw: bool, model: nn.Module, layers: Layers, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, list[Tensor]]:
    """Per layer, marks on each input tensor of each call where raw data (or counted outputs) reach it."""
    reached: dict[str, list[Tensor]] = {}

    def fill(tensor: Tensor, marked: bool) -> Tensor:
        return torch.full_like(tensor, torch.nan if marked else 0.5) if _carries(tensor) else tensor

    def visit(
        layer: Layer, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        marks = [torch.isnan(t) for t in tensors_in((args, kwargs)) if _carries(t)]
        reached.setdefault(layer.name, []).extend(marks)
        clean = map_tensors((args, kwargs), lambda t: torch.nan_to_num(t) if _carries(t) else t)
        output = forward(*clean[0], **clean[1])
        return output if layer.container else map_tensors(output, partial(fill, marked=not raw))

    with torch.no_grad(), intercepted(counted(layers), visit), Structure(model):
        model(*map_tensors(args, partial(fill, marked=raw)), **map_tensors(kwargs, partial(fill, marked=raw)))
    return reached


def moved_by(
    raw: bool, model: nn.Module, layers: Layers, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> set[str] | None:
    """Layers that see other numbers where raw data (or counted outputs) are others, all else being equal.

    Neither gradients nor NaN survive comparisons and casts to integers; a difference does. None, the
    constant, where the model does not run on such numbers.
    """
    generator = torch.Generator().manual_seed(0)

    def fill(tensor: Tensor, scale: float, marked: bool) -> Tensor:
        if not marked or not _carries(tensor):
            return torch.full_like(tensor, 0.5) if _carries(tensor) else tensor
        drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * scale
        return drawn.to(tensor)

    def seen(scale: float) -> dict[str, list[Tensor]]:
        inputs: dict[str, list[Tensor]] = {}

        def visit(layer: Layer, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            inputs.setdefault(layer.name, []).extend(t.clone() for t in tensors_in((args, kwargs)))
            output = forward(*args, **kwargs)
            return (
                output if layer.container else map_tensors(output, partial(fill, scale=scale, marked=not raw))
            )

        data = partial(fill, scale=scale, marked=raw)
        with torch.no_grad(), intercepted(counted(layers), visit):
            model(*map_tensors(args, data), **map_tensors(kwargs, data))
        return inputs

    try:
        first, *others = map(seen, (1.0, 1.0, 4.0, 16.0))
        return {
            name
            for other in others
            for name in layers
            if not _equal(first.get(name, []), other.get(name, []))
        }
    except Exception:  # whatever the model's own code raises
        return None


def _equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """Within it, distributions take NaN as parameters."""
    kind = torch.distributions.Distribution
    before = kind._validate_args
    kind.set_default_validate_args(False)
    try:
        yield
    finally:
        kind.set_default_validate_args(before)


def counted(layers: Layers) -> dict[str, tuple[Layer, nn.Module]]:
    """The layers that hold capacity; the others are data path."""
    return {name: pair for name, pair in layers.items() if pair[0].counted}


def batch_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Samples in a batch: the length of the first input's first axis, or of a list of samples."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, list) and tensors_in(value):
            return len(value)
        tensor = next((t for t in tensors_in(value) if t.dim()), None)
        if tensor is not None:
            return int(tensor.shape[0])
    return 1


def _carries(tensor: Tensor) -> bool:
    """Whether dye can stick to a tensor; integers are data (token ids), never a layer's output."""
    return tensor.is_floating_point() or tensor.is_complex()


def _emitted(layer: Layer, output: Any) -> list[Tensor]:
    """A layer's output tensors; of a recurrent one the outputs of its steps, not its last state again."""
    tensors = tensors_in(output)
    return tensors[:1] if layer.rule.one_output else tensors


def _sources(tensor: Tensor, dyes: Mapping[Tensor, str | None]) -> dict[str | None, None]:
    """The names behind a tensor's dyes: a walk from its gradient function to the scalars below it."""
    sources: dict[str | None, None] = {}
    if tensor.grad_fn is None:
        return sources
    seen, stack = {tensor.grad_fn}, [tensor.grad_fn]
    while stack:
        node = stack.pop()
        variable = getattr(node, "variable", None)
        if variable is not None and variable in dyes:
            sources[dyes[variable]] = None
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)
    return sources
