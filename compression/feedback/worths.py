"""What a squared error of each output of a layer is worth in the loss, to second order.

Where the outputs of a layer err by d independently at each position, the mean loss of a sample rises by
½ Σ_r F_r·mean(d_r²) with F_r = E[Σ_t g_rt²], the diagonal of Fisher's information: g is the gradient of the
loss under labels that the network itself draws, so that no labels are needed and a network without error
still has curvature. For other outputs than logits, g is that of ½‖y + noise‖² in place of the loss.

Reference: Martens and Grosse 2015, "Optimizing Neural Networks with Kronecker-factored Approximate
Curvature", arXiv:1503.05671, and Grosse and Martens 2016, arXiv:1602.01407, for convolutions: its output
factor, of which this is the diagonal.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity.errors import InputError
from capacity.kernels import gradients_in_evaluation
from compression.calibration import inputs_of
from compression.feedback.hessians import owners_of
from compression.feedback.layers import CONVOLUTIONS, unit_axis
from compression.forms import logits_of, run
from compression.targets import Target


def output_worths(
    model: nn.Module, targets: Mapping[str, Target], batches: Iterable[Any], *, seed: int = 0
) -> dict[str, Tensor]:
    """F_r of each target's outputs, (groups, outputs of each), in nats for each squared unit of output."""
    squares: dict[str, Tensor] = {}
    samples = 0
    generator = torch.Generator().manual_seed(seed)

    def catch(name: str, module: nn.Module) -> Callable[..., None]:
        def note(_: nn.Module, args: Any, output: Tensor) -> None:
            def add(gradient: Tensor) -> None:
                squares[name] = squares.get(name, 0) + _squares(module, gradient)

            if output.requires_grad:
                output.register_hook(add)

        return note

    with torch.enable_grad(), gradients_in_evaluation(model), ExitStack() as hooks:
        for parameter in model.parameters():  # frozen ones too, until it is left
            hooks.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(parameter.is_floating_point())
        for name, target in targets.items():
            for module in owners_of(model, target):
                hooks.enter_context(module.register_forward_hook(catch(name, module)))
        for inputs in inputs_of(model, batches):
            logits = logits_of(run(model, inputs))
            if not bool(torch.isfinite(logits).all()):
                raise InputError("the model's outputs hold NaN or infinity on these batches")
            samples += len(logits)
            _surprise(logits, generator).backward()
            model.zero_grad(set_to_none=True)
    if missing := [name for name in targets if name not in squares]:
        raise InputError(f"the outputs do not depend on layer {missing[0]!r} on these batches")
    return {name: square / samples for name, square in squares.items()}


def _surprise(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The loss of labels drawn from the logits, classes along the axis that they have in classifiers."""
    logits = logits.float()
    classes = logits if logits.dim() < 3 else logits.movedim(1 if logits.dim() > 3 else -1, -1)
    rows = classes.reshape(-1, classes.shape[-1])
    if rows.shape[1] == 1:  # a number to estimate
        return (rows * torch.randn(rows.shape, generator=generator).to(rows)).sum()
    drawn = torch.multinomial(rows.detach().softmax(1).cpu(), 1, generator=generator)[:, 0]
    return F.cross_entropy(rows, drawn.to(rows.device), reduction="sum")


def _squares(module: nn.Module, gradient: Tensor) -> Tensor:
    """Squares of an output's gradient, summed over all but units; (groups, units of each)."""
    gradient = gradient.detach().double().cpu()
    if not isinstance(module, CONVOLUTIONS):
        return gradient.reshape(-1, gradient.shape[-1]).square().sum(0)[None]
    units = gradient.movedim(unit_axis(module), 0).flatten(1).square().sum(1)
    return units.view(module.groups, -1)
