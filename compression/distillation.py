"""distill(): train a student under a teacher, whose outputs are computed on the fly or cached on disk."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity.cloning import clone
from capacity.errors import InputError, unknown
from compression.batches import TensorBatches
from compression.checkpoints import fingerprint, load_json, save_json, write_whole
from compression.processes import main_first
from compression.training import Batches, Fitted, Precision, Training, fit

Kind = Literal["hinton", "doubled", "class-mean", "soft-cross-entropy", "standardized", "decoupled"]
KINDS = ("hinton", "doubled", "class-mean", "soft-cross-entropy", "standardized", "decoupled")
LARGEST_HALF = 65504.0  # what half precision can hold


@dataclass(frozen=True)
class DistillationLoss:
    """alpha · soft term + (1 - alpha) · cross-entropy with the labels, in nats, mean over the batch.

    temperature: divides the logits of both networks in the soft term, which is multiplied by its square
    alpha: weight of the soft term; 1 needs no labels, 0 no teacher
    kind: "hinton", T²·KL(teacher ‖ student) (Hinton et al. 2015, arXiv:1503.02531); "doubled", twice that,
        as in a report this package grew out of; "class-mean", the mean over classes instead of their sum,
        that report's code, too weak by the number of classes; "soft-cross-entropy", hinton plus the
        teacher's entropy, which changes no gradient; "standardized", of z-scored logits (Sun et al. 2024,
        arXiv:2403.01427); "decoupled", target and other classes apart (Zhao et al. 2022, arXiv:2203.08679)
    beta: of "decoupled", the weight of the other classes

    Computed in single precision whatever the logits' type.
    """

    temperature: float = 4.0
    alpha: float = 0.9
    kind: Kind = "hinton"
    beta: float = 8.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"temperature must be positive, found {self.temperature}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha must lie in [0, 1], found {self.alpha}")
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)

    def __call__(self, student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of (B, classes) student and teacher logits and (B,) class indices.

        Raises InputError if the two have different numbers of classes, or the teacher's are not finite.

        >>> loss = DistillationLoss(temperature=2.0, alpha=1.0)
        >>> logits = torch.tensor([[1.0, 2.0]])
        >>> float(loss(logits, logits, torch.tensor([0])))
        0.0
        """
        hard = F.cross_entropy(student.float(), targets) if self.alpha < 1 else None
        if self.alpha == 0:
            assert hard is not None
            return hard
        if student.shape != teacher.shape:
            raise InputError(
                f"student and teacher must have the same classes: their logits have shapes "
                f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        soft = self.soft(student.float(), teacher.float(), targets)
        return soft if hard is None else self.alpha * soft + (1 - self.alpha) * hard

    def soft(self, student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        """The soft term alone, before its weight."""
        if self.kind == "standardized":
            student, teacher = _standardized(student), _standardized(teacher)
        log_q = F.log_softmax(student / self.temperature, dim=1)
        log_p = F.log_softmax(teacher / self.temperature, dim=1)
        square = self.temperature**2
        if self.kind == "decoupled":
            return square * self._decoupled(log_q, log_p, targets)
        if self.kind == "soft-cross-entropy":
            return -square * (log_p.exp() * log_q).sum(1).mean()
        divergence = square * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        if self.kind == "doubled":
            return 2 * divergence
        return divergence / student.shape[1] if self.kind == "class-mean" else divergence

    def _decoupled(self, log_q: Tensor, log_p: Tensor, targets: Tensor) -> Tensor:
        """KL of (target, all others), plus beta times the KL among the others."""
        here = targets[:, None]
        others = torch.ones_like(log_q, dtype=torch.bool).scatter_(1, here, False)

        def split(logs: Tensor) -> tuple[Tensor, Tensor]:
            rest = logs[others].view(len(logs), -1)
            mass = torch.logsumexp(rest, dim=1, keepdim=True)
            return torch.cat([logs.gather(1, here), mass], dim=1), rest - mass

        (pair_q, rest_q), (pair_p, rest_p) = split(log_q), split(log_p)
        target = F.kl_div(pair_q, pair_p, reduction="batchmean", log_target=True)
        return target + self.beta * F.kl_div(rest_q, rest_p, reduction="batchmean", log_target=True)


def _standardized(logits: Tensor) -> Tensor:
    """Logits with mean 0 and standard deviation 1 in each row."""
    deviation = logits.std(dim=1, keepdim=True)
    return (logits - logits.mean(dim=1, keepdim=True)) / (deviation + 1e-7)


def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: Batches,
    *,
    loss: DistillationLoss | None = None,
    settings: Training | None = None,
    validation: Batches | None = None,
    mixup: bool = False,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Train a copy of the student under the teacher; neither of the two given is changed.

    Parameters
    ----------
    student, teacher: classifiers with the same classes; the teacher is run in evaluation mode only
    data: as for `fit`; both see the very same batch, crop and all
    loss: see DistillationLoss
    mixup: mix every batch with a permutation of itself, by a share drawn uniformly from [0, 1] for each
        batch. With alpha=1, one crop for both, and a long cosine schedule this is function matching
        (Beyer et al. 2022, arXiv:2106.05237)
    cache: file for the teacher's outputs on `data`, computed once, in half precision, memory-mapped; for
        TensorBatches without augmentation and without mixup

    Raises InputError for different numbers of classes, for a teacher whose outputs are not finite, for
    cached outputs of another teacher or data set, and where `fit` does.
    """
    loss = loss or DistillationLoss()
    settings = settings or Training()
    if cache is not None:
        if mixup or not isinstance(data, TensorBatches):
            raise InputError("cached teacher outputs need TensorBatches, not augmented and not mixed up")
        taught = Taught(data, teacher_outputs(teacher, data, cache))
        return fit(
            student, taught, settings=settings, validation=validation, progress=progress,
            objective=lambda model, inputs, packed: loss(model(inputs), packed[:, 1:], packed[:, 0].long()),
        )  # fmt: skip
    return fit(
        student, data, settings=settings, validation=validation, progress=progress,
        objective=objective(
            teacher, loss, mixup=mixup, seed=settings.seed, mixed_precision=settings.mixed_precision
        ),
    )  # fmt: skip


def objective(
    teacher: nn.Module,
    loss: DistillationLoss,
    *,
    mixup: bool = False,
    seed: int = 0,
    mixed_precision: Precision = "no",
) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """The loss of a student under a teacher, as `fit` takes it; for training loops of one's own too.

    The teacher computes in `mixed_precision`, as the student does by its `Training`; the loss does not.
    """
    frozen = clone(teacher).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)

    def taught(inputs: Tensor) -> Tensor:
        frozen.to(inputs.device)
        kind = torch.float16 if mixed_precision == "fp16" else torch.bfloat16
        autocast = torch.autocast(inputs.device.type, kind, enabled=mixed_precision != "no")
        with torch.no_grad(), autocast:
            return _finite(frozen(inputs))

    def plain(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        given = taught(inputs)
        return loss(model(inputs), given, targets)

    def mixed(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        share = float(torch.rand((), generator=generator))
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        inputs = share * inputs + (1 - share) * inputs[order]
        given = taught(inputs)
        logits = model(inputs)
        return share * loss(logits, given, targets) + (1 - share) * loss(logits, given, targets[order])

    return mixed if mixup else plain


def _finite(logits: Tensor) -> Tensor:
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the teacher's outputs are not finite: NaN or infinity teaches nothing")
    return logits


@dataclass
class Taught:
    """Batches whose targets are (B, 1 + classes): the class index, then the teacher's cached logits."""

    batches: TensorBatches
    outputs: np.ndarray

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, (inputs, targets) in zip(self.batches.rows(), self.batches, strict=True):
            index = rows if isinstance(rows, slice) else rows.numpy()
            given = torch.from_numpy(np.asarray(self.outputs[index], dtype=np.float32)).to(targets.device)
            yield inputs, torch.cat([targets[:, None].float(), given], dim=1)


def teacher_outputs(teacher: nn.Module, data: TensorBatches, path: str | Path) -> np.ndarray:
    """The teacher's logits on all rows of `data`, (N, classes) half floats, memory-mapped from `path`.

    Computed and written where the file does not exist; beside it lies a JSON file that says of which
    teacher and data they are.

    Raises InputError for augmented data, for logits that are not finite or beyond half precision, and for
    a file of another teacher or other data.
    """
    if data.augment is not None:
        raise InputError(
            "teacher outputs cannot be cached for augmented data: each epoch sees other pictures"
        )
    with main_first():  # of several processes; the others find the file
        return _cached_outputs(teacher, data, Path(path).with_suffix(".npy"))


def _cached_outputs(teacher: nn.Module, data: TensorBatches, path: Path) -> np.ndarray:
    facts = {"teacher_sha256": fingerprint(teacher), "data_sha256": data_fingerprint(data)}
    known = path.with_suffix(".json")
    if known.exists():
        found = load_json(known)
        different = [key.removesuffix("_sha256") for key in facts if found.get(key) != facts[key]]
        if different:
            raise InputError(
                f"{path} holds outputs of another {' and '.join(different)}; choose another file or remove it"
            )
        if path.exists():
            return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    frozen = clone(teacher).eval()
    device = next((p.device for p in frozen.parameters()), torch.device("cpu"))
    parts = []
    with torch.no_grad():
        for inputs, _ in replace(data, shuffle=False):
            logits = _finite(frozen(inputs.to(device))).float().cpu()
            if float(logits.abs().max()) > LARGEST_HALF:
                raise InputError(
                    f"the teacher's logits exceed {LARGEST_HALF:g}, the most that half precision holds"
                )
            parts.append(logits.half().numpy())
    outputs = np.concatenate(parts)

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:
            np.save(file, outputs, allow_pickle=False)

    write_whole(path, write)
    save_json(known, facts)
    return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))


def data_fingerprint(data: TensorBatches) -> str:
    """SHA-256 of a data set: inputs, targets and how they are normalized; the order does not count."""
    digest = hashlib.sha256(repr((data.mean, data.std)).encode())
    for part in (data.inputs, data.targets):
        values = part if isinstance(part, np.ndarray) else part.cpu().numpy()
        digest.update(f"{values.dtype}{values.shape}".encode())
        for start in range(0, len(values), 4096):
            digest.update(np.ascontiguousarray(values[start : start + 4096]).data)
    return digest.hexdigest()
