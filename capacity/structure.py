"""Operations that swallow a NaN, made to hand on what depends on what whatever the values are.

Clamping, rounding, comparing and pooling by maxima lose the NaN of `capacity.marking`, or hand a gradient to
one of their inputs only. Within `Structure` they keep their values, but their output is NaN wherever an input
is, and their gradient goes to every input; what becomes integers is wanted. A product with a zero that the
model itself owns (a mask in the forward) is nothing but zero.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from capacity.inputs import map_tensors, tensors_in

ELEMENTWISE = {
    "clamp", "clamp_min", "clamp_max", "clip", "hardtanh", "relu", "relu6", "hardsigmoid", "hardswish",
    "threshold", "nan_to_num", "maximum", "minimum", "fmax", "fmin", "max", "min", "where", "round", "floor",
    "ceil", "trunc", "sign", "hardshrink", "softshrink",
}  # fmt: skip
EXTREMES = {"max", "min", "amax", "amin"}
NUMBERS = {"item", "tolist", "numpy", "__array__", "__float__", "__int__", "__index__"}
CASTS = {"to", "type", "long", "int", "short", "byte", "char", "bool", "float", "double", "half", "bfloat16"}
PRODUCTS = {"mul", "multiply"}


class Structure(TorchFunctionMode):
    """Within it, the operations named above pass on NaN and gradients by their structure."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.ends: list[Tensor] = []  # what became integers or left torch: wanted, whatever comes of it
        self.held = [*model.parameters(), *model.buffers()]
        self.own = {place for tensor in self.held if (place := _place(tensor))}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").removesuffix("_")
        first = args[0] if args else None
        if not isinstance(first, Tensor):
            return func(*args, **kwargs)
        if name == "detach":
            return first.view_as(first)
        if getattr(func, "__name__", "") in NUMBERS:
            self._note_end(first)
            return func(first.detach(), *args[1:], **kwargs)
        result = self._operation(func, name, first, args, kwargs)
        if isinstance(result, Tensor) and not _holds_floats(result) and result.dtype != torch.bool:
            self._note_end(first)
        return result

    def _note_end(self, tensor: Tensor) -> None:
        if _holds_floats(tensor) and (tensor.requires_grad or bool(torch.isnan(tensor).any())):
            self.ends.append(tensor)

    def _operation(self, func: Any, name: str, first: Tensor, args: Any, kwargs: Any) -> Any:
        if name in PRODUCTS and len(args) > 1:
            return self._product(func, args, kwargs)
        if name in CASTS:
            return self._cast(func, first, args[1:], kwargs)
        if "max_pool" in name or (name in EXTREMES and not _binary(args)):
            return _pooled(func, name, args, kwargs) if first.requires_grad else func(*args, **kwargs)
        if name in ELEMENTWISE and not (name == "where" and self._decided(args)):
            return _elementwise(func, args, kwargs)
        return func(*args, **kwargs)

    def _owned(self, tensor: object) -> bool:
        return isinstance(tensor, Tensor) and _place(tensor) in self.own

    def _decided(self, args: Any) -> bool:
        """Whether the condition of torch.where is the model's own."""
        return any(self._owned(a) for a in args if isinstance(a, Tensor) and a.dtype == torch.bool)

    def _product(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        own = [self._owned(factor) for factor in args[:2]]
        if own[0] == own[1]:
            return func(*args, **kwargs)
        zero = args[own.index(True)].detach() == 0
        if not bool(zero.any()):
            return func(*args, **kwargs)
        product = func(*args, **kwargs)
        if product is args[0]:
            return product.masked_fill_(zero, 0)
        return torch.where(zero, torch.zeros((), dtype=product.dtype, device=product.device), product)

    def _cast(self, func: Callable[..., Any], tensor: Tensor, args: Any, kwargs: Any) -> Any:
        """A cast; NaN becomes the integer 0, which every table has."""
        cast = func(tensor, *args, **kwargs)
        if not isinstance(cast, Tensor):
            return cast
        if self._owned(tensor):
            if not self._owned(cast):
                self.held.append(cast)  # so that its memory is not used again
                self.own.add(_place(cast))
            return cast
        if tensor.is_floating_point() and not _holds_floats(cast):
            return func(torch.nan_to_num(tensor.detach(), nan=0.0), *args, **kwargs)
        return cast


class _Touch(torch.autograd.Function):
    """A value that is NaN where one of its sources is, and whose gradient goes to all of them."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *sources: Tensor) -> Tensor:
        ctx.shapes = [source.shape for source in sources]
        marks = torch.zeros(value.shape, dtype=torch.bool, device=value.device)
        for source in sources:
            marks |= torch.isnan(source)
        return value.masked_fill(marks, torch.nan)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *(gradients[0].sum_to_size(shape) for shape in ctx.shapes)


def _elementwise(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    first = args[0]
    sources = [tensor for tensor in tensors_in((args, kwargs)) if tensor.is_floating_point()]
    with torch.no_grad():
        apart = first.detach().clone()
        value = func(apart, *args[1:], **kwargs)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return func(*args, **kwargs)
    touched: Tensor = _Touch.apply(value.detach(), *sources)
    return first.copy_(touched) if value is apart else touched


def _pooled(func: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Any:
    """Maxima over windows or axes, with a gradient to everything they are taken over."""
    pooled = func(*args, **kwargs)
    value = tensors_in(pooled)[0]
    everything = (
        _window_sums(name, value, args, kwargs) if "pool" in name else _axis_sums(value, *args, **kwargs)
    )
    touched = _Touch.apply(value.detach(), everything)
    return map_tensors(pooled, lambda tensor: touched if tensor is value else tensor)


def _axis_sums(value: Tensor, tensor: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    return tensor.sum() if dim is None or dim == () else tensor.sum(dim, keepdim)


def _window_sums(name: str, value: Tensor, args: Any, kwargs: Any) -> Tensor:
    """Sums over the windows of a pooling, in the shape of its output."""
    tensor = args[0]
    axes = int(next(letter for letter in name if letter.isdigit()))
    if name.startswith("adaptive"):
        pool: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[axes - 1]
        sums: Tensor = pool(tensor, list(value.shape[-axes:]))
        return sums
    named = dict(zip(("kernel_size", "stride", "padding", "dilation"), args[1:], strict=False)) | kwargs
    size = _each(named["kernel_size"], axes)
    stride = _each(named.get("stride") or size, axes)
    padding, dilation = _each(named.get("padding", 0), axes), _each(named.get("dilation", 1), axes)
    edges = [(p, p + d * k) for p, d, k in zip(padding, dilation, size, strict=True)]
    flat = tensor.reshape(-1, 1, *tensor.shape[-axes:])
    padded = F.pad(flat, [edge for pair in reversed(edges) for edge in pair])
    slide = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    sums = slide(padded, tensor.new_ones((1, 1, *size)), None, stride, 0, dilation)
    for axis in range(-axes, 0):
        sums = sums.narrow(axis, 0, value.shape[axis])
    return sums.reshape(value.shape)


def _each(size: Any, axes: int) -> tuple[int, ...]:
    parts = tuple(size) if isinstance(size, list | tuple) else (size,)
    return parts * axes if len(parts) == 1 else parts


def _holds_floats(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _binary(args: Any) -> bool:
    return len(args) > 1 and isinstance(args[1], Tensor)


def _place(tensor: Tensor) -> int:
    """Address of a tensor's memory; 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0
