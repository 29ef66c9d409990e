"""Features of a teacher that a student learns beside its outputs: what layers put out, pair by pair."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import checks
from capacity.errors import InputError, unknown
from capacity.inputs import shown

FeatureKind = Literal["hint", "attention", "similarity"]
FEATURE_KINDS = ("hint", "attention", "similarity")
ADAPTERS = "feature_adapters"  # what brings a student's hints to the teacher's channels, below its first leaf
ALONG_CHANNELS = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d)  # of (B, channels, length)

Features = Mapping[str, Tensor]


MOST_WEIGHT = 1e9


@dataclass(frozen=True)
class FeatureLoss:
    """weight · the sum over pairs of layers of how far the student's features are from the teacher's.

    Parameters
    ----------
    layers: a student's layer -> the teacher's: what they put out is compared, (B, C), (B, T, C) of sequences,
        (B, C, ...) of convolutions
    kind: "hint", the mean square of the difference, the student's channels brought to the teacher's by a
        linear map that is trained with it where they are not as many (FitNets: Romero et al. 2015,
        arXiv:1412.6550, equation 3, as a mean); "attention", the distance of the normalized sums of squares
        over channels (Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2 with p = 2); "similarity",
        the mean square of the difference of which samples of a batch are like which (Tung and Mori 2019,
        arXiv:1907.09682, equation 4)
    weight: beside the loss of the outputs

    Raises InputError for other kinds, a weight that is not above 0, and what is no mapping of names.
    """

    layers: Mapping[str, str]
    kind: FeatureKind = "hint"
    weight: float = 1.0

    def __post_init__(self) -> None:
        checks.fields(self, {"weight": checks.number, "kind": checks.word(*FEATURE_KINDS)})
        if not 0 < self.weight < MOST_WEIGHT:
            raise InputError(f"weight must be positive and below {MOST_WEIGHT:g}, found {self.weight}")
        pairs = self.layers.items() if isinstance(self.layers, Mapping) else ()
        if not pairs or not all(isinstance(name, str) for pair in pairs for name in pair):
            raise InputError(
                f"layers must map a student's layers to its teacher's, found {self.layers!r:.80}"
            )

    def __call__(self, student: Features, teacher: Features, adapters: nn.Module | None = None) -> Tensor:
        """Scalar loss of features by the student's layers' names, (B, positions, channels) each.

        Raises InputError for features that cannot be compared, with their shapes.
        """
        terms = []
        for place, (name, other) in enumerate(self.layers.items()):
            ours, theirs = student[name].float(), teacher[other].float()
            adapter = getattr(adapters, f"map_{place}", None)
            ours = ours if adapter is None else adapter(ours)
            _require_alike(self.kind, (name, ours), (other, theirs))
            terms.append(DISTANCES[self.kind](ours, theirs))
        return self.weight * torch.stack(terms).sum()


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean square of the difference.

    >>> hint(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 3.0]]])).item()
    5.0
    """
    return F.mse_loss(student, teacher)


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of the normalized maps of squares, summed over channels; mean over samples.

    >>> maps = torch.tensor([[[3.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])
    >>> round(attention(*maps).item(), 4)  # (1, 0) and (0, 1)
    1.4142
    """
    one, two = (F.normalize(x.square().sum(2), dim=1) for x in (student, teacher))
    distance: Tensor = torch.linalg.vector_norm(one - two, dim=1)
    return distance.mean()


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean square of the difference of the samples' products, each row of them normalized.

    >>> value = similarity(torch.eye(2)[:, None], torch.ones(2, 1, 2))  # rows (1, 0) and (1, 1) / sqrt(2)
    >>> round(value.item(), 4)
    0.2929
    """
    one, two = (F.normalize(x.flatten(1) @ x.flatten(1).T, dim=1) for x in (student, teacher))
    return F.mse_loss(one, two)


DISTANCES = {"hint": hint, "attention": attention, "similarity": similarity}


def _require_alike(kind: FeatureKind, one: tuple[str, Tensor], two: tuple[str, Tensor]) -> None:
    (name, ours), (other, theirs) = one, two
    fit = {"hint": ours.shape == theirs.shape, "attention": ours.shape[:2] == theirs.shape[:2]}
    if not fit.get(kind, len(ours) == len(theirs)):
        raise InputError(
            f"features of {name!r} and {other!r} have {ours.shape[1]} and {theirs.shape[1]} positions, which "
            f"{kind!r} cannot compare: pair layers of the same resolution, or take kind='similarity'"
        )


@contextmanager
def captured(model: nn.Module, names: Sequence[str], what: str) -> Iterator[dict[str, Tensor]]:
    """What layers put out meanwhile, (B, positions, channels) by name; of several calls, the last.

    what: is said of the model where it has no such layer, as InputError
    """
    layers = dict(model.named_modules())
    outputs: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name in names:
            if name not in layers:
                raise unknown(f"layer of the {what}", name, list(layers))

            def note(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
                outputs[name] = by_position(module, output, name)

            hooks.enter_context(layers[name].register_forward_hook(note))
        yield outputs
        if missing := [name for name in names if name not in outputs]:
            raise InputError(f"layer {missing[0]!r} of the {what} is not called, so that it has no features")


def by_position(module: nn.Module, output: Any, name: str) -> Tensor:
    """A layer's output as (B, positions, channels).

    >>> [tuple(by_position(nn.ReLU(), torch.zeros(shape), "0").shape) for shape in [(2, 5, 3, 3), (2, 5)]]
    [(2, 9, 5), (2, 1, 5)]
    """
    first = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(first, Tensor) or first.dim() < 2 or not first.is_floating_point():
        raise InputError(
            f"layer {name!r} puts out {shown(output)}, of which there are no features to compare"
        )
    if first.dim() > 3 or isinstance(module, ALONG_CHANNELS):
        return first.flatten(2).transpose(1, 2) if first.dim() > 2 else first[:, None]
    return first if first.dim() == 3 else first[:, None]


def adapters_for(loss: FeatureLoss, student: Features, teacher: Features) -> nn.ModuleDict:
    """A linear map for each pair whose channels are not as many, and only "hint" compares them one by one."""
    maps = nn.ModuleDict()
    if loss.kind == "hint":
        for place, (name, other) in enumerate(loss.layers.items()):
            ours, theirs = student[name].shape[2], teacher[other].shape[2]
            if ours != theirs:
                maps[f"map_{place}"] = nn.Linear(ours, theirs)
    return maps


def hold_adapters(student: nn.Module, maps: nn.ModuleDict) -> None:
    """Let a student hold maps while it is trained: below its first leaf, through which no forward goes."""
    leaf = next(module for module in student.modules() if not any(True for _ in module.children()))
    leaf.add_module(ADAPTERS, maps)


def adapters_of(student: nn.Module) -> nn.Module | None:
    """The maps that a student holds."""
    held = (module._modules.get(ADAPTERS) for module in student.modules())
    return next((maps for maps in held if maps is not None), None)


def drop_adapters(student: nn.Module) -> None:
    """Take the maps away from a student that has been trained."""
    for module in list(student.modules()):
        module._modules.pop(ADAPTERS, None)
