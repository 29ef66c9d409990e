"""Networks of one architecture as one: a dense layer of all of them is one batched product.

A stack holds S networks of dense layers one after another: their parameters are rows of one matrix (S, P),
each weight laid out as (inputs, outputs), and forward and backward passes are products (S, B, ...) of all
networks at once. The backward pass is written out, which saves what automatic differentiation costs small
networks. On one thread, what a network computes depends on no other beside it, to the last bit.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from capacity.parametrized import Mask

CACHE_LINE = 64  # bytes
ALIGNED = 64  # numbers to a multiple of which each network's row is filled up
aten = torch.ops.aten
# From the output, in place; any other elementwise module is differentiated by torch.
SLOPES: dict[type, Callable[[Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda slope, output: aten.threshold_backward(slope, output, 0),
    nn.Tanh: aten.tanh_backward,
    nn.Sigmoid: aten.sigmoid_backward,
}
ELEMENTWISE = (
    *SLOPES, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
    nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Tanhshrink,
)  # fmt: skip


def chain_of(model: nn.Module) -> list[tuple[str, nn.Module]] | str:
    """A network's dense and elementwise layers in the order they run, by name; or why it has no stack."""
    chain: list[tuple[str, nn.Module]] = []
    reason = _collect(model, "", chain)
    if reason:
        return reason
    parameters = [p for _, layer in chain for p in layer.parameters()]
    if not parameters:
        return "it has no dense layer"
    if len(set(map(id, parameters))) != len(parameters):
        return "layers share parameters"
    if len(list(model.parameters())) != len(parameters):
        return "it holds parameters beside its layers"
    if not all(p.numel() for p in parameters):
        return "a layer has no units"
    if not all(p.requires_grad for p in parameters):
        return "some of its parameters are frozen"
    if len({(p.dtype, p.device) for p in parameters}) > 1:
        return "its parameters have several number types or devices"
    return chain


def _collect(module: nn.Module, name: str, chain: list[tuple[str, nn.Module]]) -> str:
    """Add a module's layers; says what cannot be stacked."""
    called = f"{name!r}, a {type(module).__name__}," if name else f"a {type(module).__name__}"
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    if any(hooks) or module._backward_pre_hooks:
        return f"{called} has hooks"
    if "forward" in vars(module):
        return f"{called} has a forward of its own"
    kind = type(module)
    masked = kind is not nn.Linear and isinstance(module, nn.Linear) and parametrize.is_parametrized(module)
    if masked:
        lists: Any = module.parametrizations
        if not all(isinstance(part, Mask) for each in lists.values() for part in each):
            return f"{called} has parametrizations besides masks"
    if kind is nn.Sequential:
        for key, part in module.named_children():
            reason = _collect(part, f"{name}.{key}" if name else key, chain)
            if reason:
                return reason
        return ""
    if kind is nn.Flatten and module.start_dim == 1 and module.end_dim == -1:
        return "" if not any(isinstance(layer, nn.Linear) for _, layer in chain) else f"{called} comes late"
    if kind is nn.Identity or (isinstance(module, nn.Dropout) and not module.p):
        return ""
    if kind is nn.Linear or masked or kind in ELEMENTWISE:
        chain.append((name, module))
        return ""
    return f"{called} is neither dense nor elementwise"


@dataclass(frozen=True)
class Dense:
    """Where one dense layer of all networks lies: weights (S, inputs, outputs), biases (S, 1, outputs)."""

    weight: Tensor
    bias: Tensor | None
    weight_slope: Tensor
    bias_slope: Tensor | None


class Stack:
    """S networks as one, with room for the gradients.

    Parameters
    ----------
    models: of one architecture that `chain_of` takes, without masks; their values are copied
    products: number type of the products; by default the parameters' own. Of values and gradients in another
        type there is a rounded copy, which `forward` and `backward` bring up to date
    """

    def __init__(self, models: Sequence[nn.Module], products: torch.dtype | None = None) -> None:
        chain = chain_of(models[0])
        assert isinstance(chain, list)
        self.chain = chain
        first = next(models[0].parameters())
        sizes = [p.numel() for _, layer in chain for p in layer.parameters()]
        width = -(-sum(sizes) // ALIGNED) * ALIGNED
        self.values = torch.zeros(len(models), width, dtype=first.dtype, device=first.device)
        self.slopes = torch.zeros_like(self.values)
        self.multiplied = self.values.to(products or first.dtype)  # the same tensors where the type is
        self.collected = self.slopes.to(products or first.dtype)
        self.steps = self._laid_out()
        self.together = self._samples_together()
        for row, model in enumerate(models):
            self.load(row, dict(model.named_parameters()))

    def _laid_out(self) -> list[Dense | nn.Module]:
        steps: list[Dense | nn.Module] = []
        start = 0
        for _, layer in self.chain:
            if not isinstance(layer, nn.Linear):
                steps.append(layer)
                continue
            size = (layer.in_features, layer.out_features)
            parts: list[Tensor | None] = []
            for shape in (size, (1, size[1])) if layer.bias is not None else (size,):
                stop = start + shape[0] * shape[1]
                parts += [held[:, start:stop].view(-1, *shape) for held in (self.multiplied, self.collected)]
                start = stop
            weight, weight_slope, bias, bias_slope = parts if len(parts) == 4 else (*parts, None, None)
            assert weight is not None and weight_slope is not None
            steps.append(Dense(weight, bias, weight_slope, bias_slope))
        return steps

    @torch.no_grad()
    def load(self, row: int, tensors: Mapping[str, Tensor], into: Tensor | None = None) -> None:
        """Copy tensors of parameters' names and shapes into a network's row, of the values or `into`."""
        for name, part in self._parts((self.values if into is None else into)[row]):
            if name in tensors:
                part.copy_(tensors[name].t())

    @torch.no_grad()
    def unload(self, row: int, model: nn.Module) -> None:
        """Copy a network's row into a model's parameters, in place."""
        for name, part in self._parts(self.values[row]):
            model.get_parameter(name).copy_(part.t())

    def _parts(self, row: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The parameters' names, and where in a row each lies, transposed."""
        start = 0
        for name, layer in self.chain:
            for key in ("weight", "bias"):  # in this order, which taking off a mask may have changed
                parameter = getattr(layer, key, None)
                if isinstance(parameter, Tensor):
                    stop = start + parameter.numel()
                    yield f"{name}.{key}".removeprefix("."), row[start:stop].view(parameter.t().shape)
                    start = stop

    def _samples_together(self) -> int:
        """Samples to a multiple of which batches are filled up, so that each part starts on a cache line.

        Where it does not, sums may take another order, and results depend on the place in a stack.
        """
        size = self.multiplied.element_size()
        widths = [width for step in self.steps if isinstance(step, Dense) for width in step.weight.shape[1:]]
        return math.lcm(*(CACHE_LINE // math.gcd(CACHE_LINE, width * size) for width in widths))

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(S, B, outputs) of (S, B, inputs), and what each step was given, for `backward`."""
        if self.multiplied is not self.values:
            self.multiplied.copy_(self.values)
            inputs = inputs.to(self.multiplied.dtype)
        samples = inputs.shape[1]
        inputs = _filled(inputs, -(-samples // self.together) * self.together)
        given = []
        for step in self.steps:
            given.append(inputs)
            if isinstance(step, Dense):
                weight, bias = step.weight, step.bias
                inputs = torch.bmm(inputs, weight) if bias is None else torch.baddbmm(bias, inputs, weight)
            else:
                inputs = step(inputs)
        return inputs[:, :samples], given

    @torch.no_grad()
    def backward(self, given: Sequence[Tensor], output: Tensor, slope: Tensor) -> None:
        """Fill the gradients of all parameters from that of the output, (S, B, outputs)."""
        rows = given[0].shape[1]
        slope = _filled(slope.to(self.collected.dtype), rows)
        outputs = [*given[1:], _filled(output, rows)]
        for place in reversed(range(len(self.steps))):
            step = self.steps[place]
            if not isinstance(step, Dense):
                slope = _through(step, given[place], outputs[place], slope)
                continue
            torch.bmm(given[place].transpose(1, 2), slope, out=step.weight_slope)
            if step.bias_slope is not None:
                torch.sum(slope, 1, keepdim=True, out=step.bias_slope)
            if place:
                slope = torch.bmm(slope, step.weight.transpose(1, 2))
        if self.collected is not self.slopes:
            self.slopes.copy_(self.collected)


def _filled(samples: Tensor, rows: int) -> Tensor:
    """(S, rows, width) of (S, B, width), with zeros behind the samples."""
    more = rows - samples.shape[1]
    return nn.functional.pad(samples, (0, 0, 0, more)) if more else samples


def _through(step: nn.Module, given: Tensor, output: Tensor, slope: Tensor) -> Tensor:
    """The gradient before an elementwise step, from that behind it."""
    if type(step) in SLOPES:
        return SLOPES[type(step)](slope, output)
    with torch.enable_grad():
        leaf = given.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(step(leaf), leaf, slope)
    return gradient
