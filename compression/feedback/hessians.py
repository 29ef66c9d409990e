"""The curvature of a layer's squared output error in its weights, from what calibration data give the layer.

For outputs W·x the mean squared error of Ŵ over positions is ½ Σ_r (w_r - ŵ_r)ᵀ H (w_r - ŵ_r) with
H = 2·mean(x·xᵀ), the same for all rows w_r of a group. Sums are in double precision, in parts that memory
holds, whatever the batches.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import initialized, plain_copy, unwrapped
from capacity.errors import InputError
from compression.calibration import pass_all
from compression.epochs import require_batches
from compression.factors import computes_as_its_type
from compression.feedback.layers import is_readable, matrices_of, rows_of
from compression.feedback.sweeping import DAMPING, damped
from compression.targets import Choice, Target, choose, is_transposed, targets

MOST_ELEMENTS = 2**23  # of the rows that are multiplied at once
MOST_DAMPING = 1e9  # under which layers stand alone already, and sums do not overflow
MOST_BYTES = 2**30  # of the curvatures that are held at once


@dataclass
class Curvature:
    """Σ x·xᵀ of each group, (groups, inputs, inputs), Σ x, (groups, inputs), and over how many positions."""

    total: Tensor
    sums: Tensor
    positions: int = 0

    def add(self, module: nn.Module, given: Tensor) -> None:
        """Take in what a layer was given; raises InputError for numbers that are not finite."""
        for rows in parts_of(module, given):
            self.take(rows)

    def take(self, rows: Tensor) -> None:
        """Take in what a layer multiplies, (groups, positions, inputs)."""
        self.total += (rows.transpose(1, 2) @ rows).double().to(self.total.device)
        self.sums += rows.sum(1).double().to(self.sums.device)
        self.positions += rows.shape[1]

    def require_finite(self, name: str) -> None:
        """Raise InputError, naming the layer, where it was given NaN or infinity."""
        if not bool(torch.isfinite(self.total).all()):
            raise InputError(f"layer {name!r} is given NaN or infinity on these batches")

    @property
    def hessian(self) -> Tensor:
        """H = 2·mean(x·xᵀ), (groups, inputs, inputs)."""
        return self.total * (2 / max(1, self.positions))

    @property
    def mean(self) -> Tensor:
        """Of x, (groups, inputs)."""
        return self.sums / max(1, self.positions)

    @property
    def centred(self) -> Tensor:
        """2·cov(x), (groups, inputs, inputs)."""
        return self.hessian - 2 * self.mean[..., None] * self.mean[:, None]


def parts_of(module: nn.Module, given: Tensor) -> Iterator[Tensor]:
    """What a layer multiplies, (groups, positions, inputs), of what it is given, in parts for memory."""
    batched = given.flatten(0, -2) if isinstance(module, nn.Linear) else given
    share = -(-rows_of(module, batched[:1]).numel() * len(batched) // MOST_ELEMENTS)
    for part in batched.chunk(max(1, share)):
        yield rows_of(module, part.detach().float())


@dataclass(frozen=True)
class Calibration:
    """Batches to compress by, and how.

    Parameters
    ----------
    batches: as for `compression.Taylor`; labels are not needed
    sequential: each layer sees what the compressed ones before it give, and makes good for them: a pass over
        the batches for each, through both networks; else all see what the network as it came gives, in fewer
        passes
    damping: share of the mean curvature that is added to each, against few or dependent samples

    Raises InputError for what cannot be gone through, and a damping below 0 or of 1e9 and more.
    """

    batches: Iterable[Any]
    sequential: bool = True
    damping: float = DAMPING

    def __post_init__(self) -> None:
        require_batches("batches", self.batches)
        checks.fields(self, {"sequential": checks.flag, "damping": checks.number})
        if not 0 <= self.damping < MOST_DAMPING:
            raise InputError(
                f"damping must not be negative, and below {MOST_DAMPING:g}, found {self.damping}"
            )

    @classmethod
    def of(cls, batches: "Calibration | Iterable[Any]") -> "Calibration":
        """What is one, or batches with the usual settings."""
        return batches if isinstance(batches, Calibration) else cls(batches)


@dataclass(frozen=True)
class Walk:
    """The layers to compress in the order in which they are called, and what they are shown."""

    model: nn.Module
    calibration: Calibration
    choice: Choice

    @classmethod
    def of(
        cls, model: nn.Module, calibration: Calibration, choice: Choice,
        unfit: Callable[[Target], str] = lambda target: "",
    ) -> "Walk":  # fmt: skip
        """A walk through the layers of a choice whose inputs can be seen; others are left, with the reason.

        `unfit` says of a target why it is left, or nothing. Raises InputError if there is none to go to.
        """
        reasons = {name: obstacle(model, t) or unfit(t) for name, t in choice.chosen.items()}
        fit = {name: target for name, target in choice.chosen.items() if not reasons[name]}
        order: dict[str, Target] = {}
        watch(
            model,
            calibration.batches,
            fit,
            lambda name, module, given: order.setdefault(name, fit[name]),
            most=1,
        )
        left = {
            name: (target, reasons[name] or "it is not called on these batches")
            for name, target in choice.chosen.items()
            if name not in order
        }
        if not order:
            why = "; ".join(f"{name!r}: {reason}" for name, (_, reason) in list(left.items())[:4])
            raise InputError(f"there is no layer whose inputs can be seen{': ' if why else ''}{why}")
        return cls(model, calibration, Choice(order, {**choice.left, **left}))

    @classmethod
    def through(cls, model: nn.Module, calibration: Calibration, layers: Sequence[str] | None) -> "Walk":
        """A walk through layers by name; without names through all, output layers too.

        Raises InputError for what is no list of names, where `choose` does, and if there is none to go to.
        """
        choice = Choice(dict(targets(model)), {}) if layers is None else choose(model, layers)
        return cls.of(model, calibration, choice)

    @classmethod
    def on_copy(
        cls, model: nn.Module, batches: Calibration | Iterable[Any], layers: Sequence[str] | None
    ) -> "Walk":
        """A walk `through` a copy of a model: unwrapped, masks and the like folded, in evaluation mode."""
        copied = plain_copy(initialized(unwrapped(model))).eval()
        return cls.through(copied, Calibration.of(batches), layers)

    @property
    def left(self) -> dict[str, str]:
        """The matrices that it does not go to, and why."""
        return {name: reason for name, (_, reason) in self.choice.left.items()}

    def steps(self) -> Iterator[tuple[Target, Tensor]]:
        """Each target and its damped H; what is done to its weight meanwhile is seen by the next."""
        for target, given in self.given():
            yield target, damped(given.hessian, self.calibration.damping)

    def given(self) -> Iterator[tuple[Target, Curvature]]:
        """The same with what the target is given."""
        chosen = self.choice.chosen
        for names in [[name] for name in chosen] if self.calibration.sequential else _portions(chosen):
            curvatures = {name: empty_curvature(chosen[name]) for name in names}
            part = {name: chosen[name] for name in names}

            def add(name: str, module: nn.Module, given: Tensor, into: Any = curvatures) -> None:
                into[name].add(module, given)

            watch(self.model, self.calibration.batches, part, add)
            for name in names:
                curvature = curvatures.pop(name)
                curvature.require_finite(name)
                yield chosen[name], curvature


def watch(
    model: nn.Module,
    batches: Iterable[Any],
    targets: Mapping[str, Target],
    see: Callable[[str, nn.Module, Tensor], Any],
    most: int | None = None,
) -> None:
    """Run the model; `see` is called with a target's name, each module that holds it, and its input."""

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = [*args, *kwargs.values()]
            if values and isinstance(values[0], Tensor):
                see(name, module, values[0])

        return note

    with torch.no_grad(), ExitStack() as hooks:
        for name, target in targets.items():
            for module in owners_of(model, target):
                hooks.enter_context(module.register_forward_pre_hook(hook(name), with_kwargs=True))
        pass_all(model, batches, most=most)


def owners_of(model: nn.Module, target: Target) -> list[nn.Module]:
    """The layers that hold a weight: several where it is tied."""
    paths = dict.fromkeys(name.rpartition(".")[0] for name in target.names)
    return list(dict.fromkeys(model.get_submodule(path) for path in paths))


def obstacle(model: nn.Module, target: Target) -> str:
    """Why a weight's inputs cannot be seen; empty if they can."""
    if 0 in target.shape:
        return "it has no weights"
    owners = owners_of(model, target)
    unread = [module for module in owners if not is_readable(module)]
    if not unread and target.key == "weight":
        odd = [module for module in owners if not is_transposed(module) and not computes_as_its_type(module)]
        return f"the forward of {type(odd[0]).__name__} is another than that of its type" if odd else ""
    kind = type(unread[0] if unread else target.module).__name__
    return f"what {kind} multiplies it with is not what the layer is given"


def _shape(target: Target) -> torch.Size:
    return matrices_of(target.module, torch.empty(target.shape, device="meta")).shape


def empty_curvature(target: Target) -> Curvature:
    """Of nothing given yet."""
    groups, _, inputs = _shape(target)
    zeros = torch.zeros(groups, inputs, inputs + 1, dtype=torch.float64)
    return Curvature(zeros[..., 1:].contiguous(), zeros[..., 0].contiguous())


def _portions(targets: Mapping[str, Target]) -> list[list[str]]:
    """Layers whose curvatures are held together."""
    portions: list[list[str]] = [[]]
    held = 0
    for name, target in targets.items():
        groups, _, inputs = _shape(target)
        size = 8 * groups * inputs**2
        if held + size > MOST_BYTES and portions[-1]:
            portions.append([])
            held = 0
        portions[-1].append(name)
        held += size
    return portions
