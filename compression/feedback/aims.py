"""What a layer's outputs are to be: those of the network as it came, whatever the layers before it do now.

Its weights aim at them by least squares: where a layer is given x̂ in place of x, those are W + W·(C - H)·H⁻¹
with C = 2·mean(x·x̂ᵀ) and H = 2·mean(x̂·x̂ᵀ). Its bias, or the batch norm behind it, makes each output's mean
what it was; the batch norm its variance, too. What is left of the squared error is that about the mean, whose
curvature is 2·cov(x̂): inputs behind a rectifier have large means, and weights may err together along them.
None of this costs bits: the numbers are written whatever they are.

References: Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration",
arXiv:2504.02692, for what a layer was given; Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", arXiv:1906.04721; Sun et al. 2019, "Hybrid 8-bit Floating Point (HFP8)
Training and Inference for Deep Neural Networks", NeurIPS 32, for batch norms tuned anew.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from capacity.cloning import clone
from compression.calibration import pass_all
from compression.counting import HALVES
from compression.feedback.hessians import Curvature, Walk, empty_curvature, owners_of, parts_of, watch
from compression.feedback.layers import exact_matrices, unit_axis
from compression.feedback.sweeping import damped, factor_of, output_error, refit
from compression.targets import Target

MOST_SCALE = 2.0  # and its inverse, by which a batch norm makes good an output's variance


@dataclass
class Outputs:
    """Sums of each output of a layer, and of its squares, over so many positions."""

    layer: nn.Module
    total: Any = 0.0
    squares: Any = 0.0
    positions: int = 0
    calls: int = 0

    def add(self, output: Tensor) -> None:
        units = output.detach().movedim(unit_axis(self.layer), 0).flatten(1).double().cpu()
        self.total, self.squares = self.total + units.sum(1), self.squares + units.square().sum(1)
        self.positions, self.calls = self.positions + units.shape[1], self.calls + 1

    @property
    def mean(self) -> Tensor:
        mean: Tensor = self.total / self.positions
        return mean

    @property
    def variance(self) -> Tensor:
        variance: Tensor = self.squares / self.positions - self.mean.square()
        return variance.clamp(min=0)


@dataclass
class Means:
    """What each layer gave in the network as it came, and the batch norm that took just that."""

    outputs: dict[str, Outputs] = field(default_factory=dict)
    norms: dict[str, _BatchNorm] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, targets: Mapping[str, Target], batches: Iterable[Any]) -> "Means":
        """By one pass over the batches; layers that share a weight or a bias are left."""
        parameters = Counter(id(p) for module in model.modules() for p in module._parameters.values())
        owners = {name: owners_of(model, target) for name, target in targets.items()}
        alone = {
            name: layers[0] for name, layers in owners.items()
            if len(layers) == 1 and (layers[0].bias is None or parameters[id(layers[0].bias)] == 1)
        }  # fmt: skip
        seen = cls({name: Outputs(layer) for name, layer in alone.items()})
        for norm, names in _sources(model, seen.outputs, batches).items():
            (name, *others) = set(names)
            if name and not others and len(names) == seen.outputs[name].calls:
                seen.norms[name] = norm
        return seen

    def receives(self, name: str) -> bool:
        """Whether a layer's outputs can be shifted at no cost."""
        return name in self.norms or (name in self.outputs and self._bias(name) is not None)

    def _bias(self, name: str) -> Tensor | None:
        """The layer's bias, unless it is zero somewhere, and so has to stay."""
        bias = self.outputs[name].layer.bias
        return bias if isinstance(bias, Tensor) and bool((bias != 0).all()) else None

    @torch.no_grad()
    def make_good(self, name: str, weights: Tensor, given: Curvature) -> None:
        """Give each output the mean that it had, and behind a batch norm the variance."""
        before, bias = self.outputs[name], self.outputs[name].layer.bias
        mean = (weights @ given.mean[..., None]).flatten()
        if isinstance(bias, Tensor):
            mean = mean + bias.detach().double().cpu()
        norm = self.norms.get(name)
        if norm is None:
            assert isinstance(bias, Tensor)
            bias.copy_(_halves(bias.double().cpu() + before.mean - mean))
            return
        variance = output_error(weights, given.centred).flatten() / 2
        assert norm.running_mean is not None and norm.running_var is not None
        scale = torch.where(before.variance > 0, variance / before.variance, 1.0)
        scale = torch.where(scale > 0, scale.sqrt(), 1.0).clamp(1 / MOST_SCALE, MOST_SCALE)
        shift = before.mean - norm.running_mean.double().cpu()
        norm.running_mean.copy_(_halves(mean - scale * shift))
        spread = (norm.running_var.double().cpu() + norm.eps) * scale.square() - norm.eps
        norm.running_var.copy_(_halves(spread.clamp(min=HALVES[0])))


def _sources(
    model: nn.Module, outputs: Mapping[str, Outputs], batches: Iterable[Any]
) -> dict[_BatchNorm, list[str]]:
    """Run the model, summing up outputs; which layer's output each batch norm was given, call by call.

    An empty name is that of what no layer put out just before.
    """
    sources: dict[_BatchNorm, list[str]] = {}
    latest: tuple[str, Any] = ("", None)

    def add(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, output: Tensor) -> None:
            nonlocal latest
            outputs[name].add(output)
            latest = name, output

        return hook

    def take(norm: _BatchNorm, args: tuple[Any, ...]) -> None:
        same = bool(args) and args[0] is latest[1]
        sources.setdefault(norm, []).append(latest[0] if same else "")

    with torch.no_grad(), ExitStack() as hooks:
        for name, seen in outputs.items():
            hooks.enter_context(seen.layer.register_forward_hook(add(name)))
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                hooks.enter_context(module.register_forward_pre_hook(take))
        pass_all(model, batches)
    return sources


def _halves(values: Tensor) -> Tensor:
    """Values that are not zero are no smaller than half precision has them with all bits."""
    return torch.where(values == 0, values, values.sign() * values.abs().clamp(*HALVES))


@dataclass
class Pairs:
    """What a layer is given, and was given at the same places in the network as it came.

    cross: Σ x·x̂ᵀ, (groups, inputs, inputs); sums: Σ x, (groups, inputs); squares: Σ ‖x‖²; apart: Σ ‖x - x̂‖²;
    matched: whether all had their like
    """

    given: Curvature
    cross: Tensor
    sums: Tensor
    squares: float = 0.0
    apart: float = 0.0
    matched: bool = True

    @classmethod
    def of(cls, walk: Walk, before: nn.Module, target: Target) -> "Pairs":
        """By a pass over the batches through both networks."""
        given = empty_curvature(target)
        seen = cls(given, torch.zeros_like(given.total), torch.zeros_like(given.sums))
        for batch in walk.calibration.batches:
            calls: list[list[tuple[nn.Module, Tensor]]] = [[], []]
            for into, model in zip(calls, (walk.model, before), strict=True):
                watch(model, [batch], {target.name: target}, lambda _, *call, into=into: into.append(call))
            seen.matched &= [call[1].shape for call in calls[0]] == [call[1].shape for call in calls[1]]
            for place, (module, became) in enumerate(calls[0]):
                seen.add(module, became, calls[1][place][1] if seen.matched else became)
        given.require_finite(target.name)
        return seen

    def add(self, module: nn.Module, became: Tensor, was: Tensor) -> None:
        """Take in one call."""
        for now, then in zip(parts_of(module, became), parts_of(module, was), strict=True):
            self.given.take(now)
            self.cross += (then.transpose(1, 2) @ now).double().to(self.cross.device)
            self.sums += then.sum(1).double().to(self.sums.device)
            self.squares += float(then.double().square().sum())
            self.apart += float((then - now).double().square().sum())

    @property
    def alike(self) -> bool:
        """Whether inputs are nearer to what they were than that was to its mean, else other samples."""
        count = max(1, self.given.positions)
        spread = self.squares - float(self.sums.square().sum()) / count
        return self.matched and self.apart <= max(0.0, spread)

    def aim(self, weights: Tensor, hessian: Tensor, damped_hessian: Tensor, *, centred: bool) -> Tensor:
        """The weights, zeros staying zeros, whose outputs here are nearest to what they were."""
        if not self.alike:
            return weights
        count = max(1, self.given.positions)
        cross = self.cross * (2 / count)
        if centred:
            cross = cross - 2 * (self.sums / count)[..., None] * self.given.mean[:, None]
        gap = weights @ (cross - hessian)
        if not bool(gap.any()):
            return weights
        factor, alive = factor_of(damped_hessian), weights != 0
        aims = weights + gap @ factor.transpose(1, 2) @ factor
        return aims if bool(alive.all()) else refit(aims, weights, alive, damped_hessian)


def aimed_steps(walk: Walk) -> Iterator[tuple[Target, Tensor, Tensor]]:
    """As `walk.steps()`, with the weights to compress between target and H.

    Before the next step what was done to the weights is made good in bias or batch norm. Layers that are now
    given other samples than before, as where inputs are routed, are compressed as they are.
    """
    calibration = walk.calibration
    means = Means.of(walk.model, walk.choice.chosen, calibration.batches)
    for target, pairs in _pairs(walk):
        shifts = pairs.alike and means.receives(target.name)
        hessian = pairs.given.centred if shifts else pairs.given.hessian
        damped_hessian = damped(hessian, calibration.damping)
        aim = pairs.aim(exact_matrices(target), hessian, damped_hessian, centred=shifts)
        yield target, aim, damped_hessian
        if shifts:
            means.make_good(target.name, exact_matrices(target), pairs.given)


def _pairs(walk: Walk) -> Iterator[tuple[Target, Pairs]]:
    """Each target, what it is given, and what it was; if not sequential both are the same."""
    if not walk.calibration.sequential:
        for target, given in walk.given():
            squares = float(given.total.diagonal(dim1=1, dim2=2).sum())
            yield target, Pairs(given, given.total, given.sums, squares)
        return
    before = clone(walk.model)
    for target in walk.choice.chosen.values():
        yield target, Pairs.of(walk, before, target)
