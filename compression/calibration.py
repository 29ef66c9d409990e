"""Criteria that see data: what gradients or activations over calibration batches say of each weight.

Each is an `Observer` (`compression.criteria`): it looks at a copy of the model in evaluation mode and gives
scores by parameter, which `prune`, `shrink`, `squeeze` and `prune_n_of_m` rank as they rank any others.
Batches are those of `fit`; they are gone through anew each time, so give a list or a loader, no generator.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.errors import InputError
from capacity.inputs import as_integer, map_tensors, require_weights, tensors_in
from capacity.kernels import gradients_in_evaluation
from compression.criteria import widened
from compression.epochs import require_batches
from compression.factors import torch_kind
from compression.forms import dtype_of, parts_of, placed, run, size_of
from compression.objectives import Objective, objective_of, require_scalar

MULTIPLYING = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class Taylor:
    """(g·w)², the squared change of the loss to first order if the weight were zero; g is its mean gradient.

    Reference: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", arXiv:1906.10771,
    equation 8.

    Parameters
    ----------
    batches: (inputs, targets) and the other forms of `fit`
    objective: as for `fit`; by default the cross-entropy, or the loss that the model returns
    """

    batches: Iterable[Any]
    objective: Objective | str | None = None

    def observe(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Scores of every parameter that the loss hangs on."""
        total: dict[str, Tensor] = {}
        count = 0
        for size, gradients in _gradients(model, self.batches, self.objective):
            count += size
            for name, gradient in gradients.items():
                total[name] = total.get(name, 0) + size * gradient
        weights = dict(model.named_parameters())
        return {
            name: (widened(weights[name].detach()) * sums / count).square() for name, sums in total.items()
        }


@dataclass(frozen=True)
class Fisher:
    """½·F·w² with F the mean square of a sample's gradient: optimal brain damage with Fisher's diagonal.

    Reference: LeCun, Denker and Solla 1990, "Optimal Brain Damage", equation 5; for the empirical Fisher in
    place of the curvature, Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher
    pruning", arXiv:1801.05787.

    Parameters
    ----------
    batches, objective: as for `Taylor`
    samples: the most samples that are gone through, one after another
    """

    batches: Iterable[Any]
    objective: Objective | str | None = None
    samples: int = 256

    def observe(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Scores of every parameter that the loss hangs on."""
        total: dict[str, Tensor] = {}
        count = 0
        require_batches("batches", self.batches)
        as_integer("samples", self.samples)
        for _, gradients in _gradients(model, _singles(self.batches, self.samples), self.objective):
            count += 1
            for name, gradient in gradients.items():
                total[name] = total.get(name, 0) + gradient.square()
        return _worths(model, total, count)


@dataclass(frozen=True)
class GaussNewton:
    """½·h·w² with h = E‖∂z/∂w‖²: how far the outputs z would move, squared, if the weight were zero.

    Optimal brain damage with Gauss-Newton's diagonal of the squared error of the outputs. No labels enter,
    so that it also tells weights apart in a network that has learnt its samples, whose loss is flat.
    ‖∂z/∂w‖² is that of a sample, estimated from gradients of signed sums of all outputs of a batch (Bekas et
    al. 2007): one random draw for each batch, so that many small batches tell more than few large ones.

    References: LeCun, Denker and Solla 1990, "Optimal Brain Damage", equation 5; Bekas, Kokiopoulou and
    Saad 2007, "An estimator for the diagonal of a matrix", Applied Numerical Mathematics 57.

    Parameters
    ----------
    batches: (inputs, targets) or inputs alone
    seed: of the signs, which are drawn alike each time
    """

    batches: Iterable[Any]
    seed: int = 0

    def __post_init__(self) -> None:
        checks.seed("seed", self.seed)

    def observe(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Scores of every parameter that the outputs hang on."""
        generator = torch.Generator().manual_seed(self.seed)
        total: dict[str, Tensor] = {}
        count = 0
        for inputs in inputs_of(model, self.batches):
            count += size_of(inputs)
            slopes = _slopes(model, partial(_signed_sum, model, inputs, generator))
            for name, slope in slopes.items():
                total[name] = total.get(name, 0) + slope.square()
        return _worths(model, total, count)


def _signed_sum(model: nn.Module, inputs: Any, generator: torch.Generator) -> Tensor:
    """The sum of all numbers that a model gives, each with a random sign."""
    sums: list[Tensor] = []
    for tensor in tensors_in(run(model, inputs)):
        if tensor.requires_grad:
            signs = torch.randint(0, 2, tensor.shape, generator=generator).mul_(2).sub_(1)
            sums.append((widened(tensor) * signs.to(tensor.device)).sum())
    if not sums:
        raise InputError("no output of the model is differentiable by its weights")
    return torch.stack(sums).sum()


@dataclass(frozen=True)
class ActivationNorm:
    """|w|·‖x‖, what the weight multiplies over all samples and positions (Wanda); dense and convolutional.

    Reference: Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models",
    arXiv:2306.11695, equation 1.

    Parameters
    ----------
    batches: as for `Taylor`; labels are not needed
    by_row: compare weights within the row of an output, as the paper does: the score is the share of the
        row's weights that are no better, so that an amount takes the same share of each row
    """

    batches: Iterable[Any]
    by_row: bool = False

    def observe(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Scores of the weights of all dense and convolutional layers that were called."""
        checks.flag("by_row", self.by_row)
        squares: dict[str, Tensor] = {}

        def hook(name: str) -> Callable[..., None]:
            def note(module: nn.Module, args: tuple[Any, ...], _: Any) -> None:
                if args and isinstance(args[0], Tensor):
                    squares[name] = squares.get(name, 0) + _squares(module, args[0])

            return note

        with torch.no_grad(), ExitStack() as hooks:
            for name, module in model.named_modules():
                if isinstance(module, MULTIPLYING) and "weight" in module._parameters:
                    hooks.enter_context(
                        module.register_forward_hook(hook(f"{name}.weight" if name else "weight"))
                    )
            pass_all(model, self.batches)
        weights = dict(model.named_parameters(remove_duplicate=False))
        scores = {name: widened(weights[name].detach()).abs() * sums.sqrt() for name, sums in squares.items()}
        if not self.by_row:
            return scores
        return {
            name: _ranked(model.get_submodule(name.rpartition(".")[0]), score)
            for name, score in scores.items()
        }


@dataclass(frozen=True)
class BatchNormScale:
    """|γ| of the batch norm right behind a layer, spread over the weights of each of its units.

    Reference: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming",
    arXiv:1708.06519. Layers with no batch norm right behind them are not scored.

    Parameters
    ----------
    batches: of which one shows what follows what; labels are not needed
    """

    batches: Iterable[Any]

    def observe(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Scores of the weights of dense and convolutional layers with a batch norm behind them."""
        made: dict[int, tuple[str, nn.Module, Tensor]] = {}
        scores: dict[str, Tensor] = {}

        def emit(name: str) -> Callable[..., None]:
            return lambda module, _, output: made.update({id(output): (name, module, output)})

        def scale(norm: nn.Module, args: tuple[Any, ...]) -> None:
            name, layer, output = made.get(id(args[0]), ("", norm, None))
            if output is not None and isinstance(norm.weight, Tensor):
                scores[f"{name}.weight" if name else "weight"] = _spread(layer, norm.weight.detach().abs())

        with torch.no_grad(), ExitStack() as hooks:
            for name, module in model.named_modules():
                if isinstance(module, MULTIPLYING):
                    hooks.enter_context(module.register_forward_hook(emit(name)))
                elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                    hooks.enter_context(module.register_forward_pre_hook(scale))
            pass_all(model, self.batches, most=1)
        return scores


def _gradients(
    model: nn.Module, batches: Iterable[Any], objective: Objective | str | None
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """For each batch its size and the gradient of its mean loss, of every parameter that it hangs on."""
    require_weights(model)
    require_batches("batches", batches)
    loss_of = objective_of(objective, batches)
    empty = True
    for batch in batches:
        inputs, targets = (_placed(part, model) for part in parts_of(batch))
        empty = False
        yield size_of(targets), _slopes(model, partial(loss_of, model, inputs, targets))
    if empty:
        raise _no_batches()


def _slopes(model: nn.Module, value: Callable[[], Tensor]) -> dict[str, Tensor]:
    """The gradient of a scalar that the model computes, by every parameter that it hangs on."""
    parameters = {name: p.requires_grad_() for name, p in model.named_parameters() if p.is_floating_point()}
    with torch.enable_grad(), gradients_in_evaluation(model):
        scalar = value()
        require_scalar(scalar)
        slopes = torch.autograd.grad(scalar, list(parameters.values()), allow_unused=True)
    return {n: widened(g.detach()) for n, g in zip(parameters, slopes, strict=True) if g is not None}


def _worths(model: nn.Module, sums: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """½·w² times the mean of what was summed over so many samples."""
    weights = dict(model.named_parameters())
    return {
        name: widened(weights[name].detach()).square() * each / (2 * count) for name, each in sums.items()
    }


def _singles(batches: Iterable[Any], most: int) -> Iterator[Any]:
    """Up to so many samples as batches of one."""
    left = most
    for batch in batches:
        parts = parts_of(batch)
        size = size_of(parts[1])
        for k in range(min(size, left)):
            yield map_tensors(parts, partial(_sample, size=size, k=k))
        left -= size
        if left <= 0:
            return


def _sample(tensor: Tensor, *, size: int, k: int) -> Tensor:
    return tensor[k : k + 1] if tensor.dim() and len(tensor) == size else tensor


def pass_all(model: nn.Module, batches: Iterable[Any], most: int | None = None) -> None:
    """Run the model on the inputs of each batch, or of so many; raises InputError if there are none."""
    for inputs in islice(inputs_of(model, batches), most):
        run(model, inputs)


def inputs_of(model: nn.Module, batches: Iterable[Any]) -> Iterator[Any]:
    """The inputs of each batch, where the model is; raises InputError if there are none."""
    require_weights(model)
    require_batches("batches", batches)
    empty = True
    for batch in batches:
        inputs = batch
        if not isinstance(batch, Tensor):
            try:
                inputs, _ = parts_of(batch)
            except InputError:
                if not isinstance(batch, Mapping):
                    raise
        empty = False
        yield _placed(inputs, model)
    if empty:
        raise _no_batches()


def _no_batches() -> InputError:
    return InputError("there were no calibration batches; give a list or a loader, not a generator used up")


def _placed(value: Any, model: nn.Module) -> Any:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return placed(value, device, dtype_of(model))


def _squares(module: nn.Module, data: Tensor) -> Tensor:
    """What each weight multiplies, squared and summed: the gradient by it of all that squared data gives.

    Where a forward of its own makes other numbers of the weight first, by what torch's layer would multiply.
    """
    squares = _by_gradient(module, type(module).forward, data)
    if bool((squares >= 0).all()):
        return squares
    return _by_gradient(module, torch_kind(module).forward, data)


def _by_gradient(module: nn.Module, forward: Callable[..., Tensor], data: Tensor) -> Tensor:
    held = module._parameters["weight"]
    assert held is not None
    weight = nn.Parameter(widened(held.detach()))
    bias = module._parameters.get("bias")
    module._parameters["weight"] = weight
    module._parameters["bias"] = None
    try:
        with torch.enable_grad():
            result = forward(module, widened(data.detach()).square())
            (squares,) = torch.autograd.grad(result.sum(), weight)
    finally:
        module._parameters["weight"], module._parameters["bias"] = held, bias
    return squares


def _ranked(layer: nn.Module, scores: Tensor) -> Tensor:
    """The rank of each weight among those of the same output, as a share of them."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        rows = scores.unflatten(0, (layer.groups, -1)).transpose(1, 2)
        return _shares(rows.flatten(2)).view(rows.shape).transpose(1, 2).reshape(scores.shape)
    return _shares(scores.flatten(1)).view(scores.shape)


def _shares(rows: Tensor) -> Tensor:
    """Ranks along the last axis, from 1 / n to 1; of equal scores the first is the lowest."""
    ranks = rows.argsort(dim=-1, stable=True).argsort(dim=-1)
    return (ranks + 1).float() / rows.shape[-1]


def _spread(layer: nn.Module, units: Tensor) -> Tensor:
    """A number of each unit, shared out among its weights."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        grouped = units.view(layer.groups, 1, -1, *[1] * (weight.dim() - 2))
        rows = grouped.expand(layer.groups, weight.shape[0] // layer.groups, *weight.shape[1:])
        return rows.reshape(weight.shape) * len(units) / weight.numel()
    return units.view(-1, *[1] * (weight.dim() - 1)).expand(weight.shape) * len(units) / weight.numel()
