"""Changes of a network's weights and layers that leave its function as it is.

Reference: Dinh, Pascanu, Bengio and Bengio 2017, "Sharp minima can generalize for deep nets" (scales);
Nagel, van Baalen, Blankevoort and Welling 2019 (scales of single units); Sussmann 1992 (order and signs).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

Dense = tuple[Tensor, Tensor]  # weights (outputs, inputs) and biases (outputs,) of a layer
Change = Callable[[Sequence[Dense], float, Generator], nn.Sequential]


def layers_of(model: nn.Sequential) -> list[Dense]:
    """Weights and biases of the dense layers of a network of Linear and ReLU in turn."""
    return [(m.weight.detach(), m.bias.detach()) for m in model if isinstance(m, nn.Linear)]


def changed(model: nn.Sequential, name: str, factor: float, seed: int) -> nn.Sequential:
    """A new network of the same function, in evaluation mode.

    model: Linear and ReLU in turn, two dense layers at least; name: of CHANGES; factor: above 1
    """
    return WAYS[name](layers_of(model), factor, Generator().manual_seed(seed)).eval()


def dense(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer with these weights (outputs, inputs) and biases."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def chain(layers: Sequence[Dense]) -> nn.Sequential:
    """The network of these layers, with rectifiers between them."""
    parts: list[nn.Module] = []
    for weight, bias in layers:
        parts += [dense(weight, bias), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def reordered(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """Each hidden layer's units in another order."""
    changed = list(layers)
    for k in range(len(layers) - 1):
        (weight, bias), (after, last) = changed[k], changed[k + 1]
        order = torch.randperm(len(bias), generator=generator)
        changed[k], changed[k + 1] = (weight[order], bias[order]), (after[:, order], last)
    return chain(changed)


def layer_scaled(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """The first layer times the factor, the last one over it; biases between grow along."""
    scaled = [(weight, bias * factor) for weight, bias in layers[1:-1]]
    (first, bias), (last, outputs) = layers[0], layers[-1]
    return chain([(first * factor, bias * factor), *scaled, (last / factor, outputs)])


def units_scaled(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """Each hidden unit times a factor of its own, log-uniform from 1/factor to factor."""
    changed = list(layers)
    for k in range(len(layers) - 1):
        (weight, bias), (after, last) = changed[k], changed[k + 1]
        scale = factor ** (2 * torch.rand(len(bias), generator=generator) - 1)
        changed[k], changed[k + 1] = (weight * scale[:, None], bias * scale), (after / scale, last)
    return chain(changed)


def split(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """Each hidden unit twice, each of which passes on half."""
    changed = list(layers)
    for k in range(len(layers) - 1):
        (weight, bias), (after, last) = changed[k], changed[k + 1]
        changed[k] = (torch.cat([weight, weight]), torch.cat([bias, bias]))
        changed[k + 1] = (torch.cat([after, after], 1) / 2, last)
    return chain(changed)


def silent(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """As many hidden units more, of random weights, that nothing reads."""
    return chain(_more(layers, generator, read=False))


def dead(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """As many hidden units more that are read but never fire: their weights and biases are negative or zero.

    In the first layer, whose inputs may have either sign, their weights are zero.
    """
    return chain(_more(layers, generator, read=True))


def _more(layers: Sequence[Dense], generator: Generator, *, read: bool) -> list[Dense]:
    changed = list(layers)
    for k in range(len(layers) - 1):
        (weight, bias), (after, last) = changed[k], changed[k + 1]
        shapes = (weight.shape, bias.shape, after.shape)
        new, shift, out = (torch.randn(shape, generator=generator) * 0.3 for shape in shapes)
        if read:
            new, shift = -new.abs() * (k > 0), -shift.abs() - 0.1
        changed[k] = (torch.cat([weight, new]), torch.cat([bias, shift]))
        changed[k + 1] = (torch.cat([after, out if read else torch.zeros_like(after)], 1), last)
    return changed


def identity(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """Behind each rectifier a layer that passes on what it gets, and another rectifier."""
    changed = []
    for weight, bias in layers[:-1]:
        changed += [(weight, bias), (torch.eye(len(bias)), torch.zeros(len(bias)))]
    return chain([*changed, layers[-1]])


def rotated(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """Each layer but the first as two without a rectifier between, which a random rotation links."""
    parts: list[nn.Module] = [dense(*layers[0])]
    for weight, bias in layers[1:]:
        side = weight.shape[1]
        turn = torch.linalg.qr(torch.randn(side, side, generator=generator, dtype=torch.float64))[0]
        back = (weight.double() @ turn.T).to(weight.dtype)
        parts += [nn.ReLU(), dense(turn.to(weight.dtype)), dense(back, bias)]
    return nn.Sequential(*parts)


def normed(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """Behind each hidden layer a batch norm whose scale and shift undo its own statistics.

    Folding it into the layer before is the way back.
    """
    return _with_norms(layers, 1.0, generator)


def norm_scaled(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    """The same with each hidden layer times the factor, and the statistics of its norm along."""
    return _with_norms(layers, factor, generator)


def _with_norms(layers: Sequence[Dense], factor: float, generator: Generator) -> nn.Sequential:
    parts: list[nn.Module] = []
    for weight, bias in layers[:-1]:
        norm = nn.BatchNorm1d(len(bias))
        mean = torch.randn(len(bias), generator=generator)
        variance = 0.5 + torch.rand(len(bias), generator=generator)
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            norm.running_mean.copy_(mean * factor)
            norm.running_var.copy_((variance + norm.eps) * factor**2 - norm.eps)
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)
        parts += [dense(weight * factor, bias * factor), norm, nn.ReLU()]
    return nn.Sequential(*parts, dense(*layers[-1]))


WAYS: dict[str, Change] = {
    "reordered": reordered, "layer-scaled": layer_scaled, "units-scaled": units_scaled, "split": split,
    "silent": silent, "dead": dead, "identity": identity, "rotated": rotated, "normed": normed,
    "norm-scaled": norm_scaled,
}  # fmt: skip
