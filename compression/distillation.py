"""distill(): train a student under a teacher, whose outputs are computed on the fly or cached on disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import checks
from capacity.cloning import clone
from capacity.errors import InputError
from capacity.inputs import require_module, require_weights, shown, tensors_in
from capacity.seeding import seed_generators
from compression.arrays import RowWriter, halved, mapped_rows
from compression.batches import TensorBatches
from compression.calibration import inputs_of
from compression.checkpoints import load_json, save_json
from compression.epochs import evaluation_mode, require_batches
from compression.features import (
    FeatureLoss,
    adapters_for,
    adapters_of,
    captured,
    drop_adapters,
    hold_adapters,
)
from compression.forms import dtype_of, heads_of, logits_for, own_loss, placed, run
from compression.identity import describe
from compression.labels import IGNORED, aligned, class_axis_of, cross_entropy, matched
from compression.options import with_options
from compression.processes import main_first
from compression.progress import Progress
from compression.soft_targets import SoftTargetLoss, check_temperature
from compression.storage import hold_file, require_plain, write_atomically
from compression.teacher_ensembles import TeacherEnsemble
from compression.training import Batches, FitResult, Objective, Precision, TrainingSettings, fit

Kind = Literal["hinton", "doubled", "class-mean", "soft-cross-entropy", "standardized", "decoupled"]
KINDS = ("hinton", "doubled", "class-mean", "soft-cross-entropy", "standardized", "decoupled")
FIELDS: Mapping[str, checks.Check] = {
    "temperature": check_temperature, "alpha": checks.number, "beta": checks.number,
    "kind": checks.word(*KINDS), "class_axis": checks.optional(checks.count),
}  # fmt: skip
MOST_BETA = 1e9
FUSED = {"hinton": 1.0, "doubled": 2.0, "class-mean": 1.0}  # kinds that SoftTargetLoss knows, their weights
MOST_CACHED = 1 << 24  # numbers of a teacher's cached outputs that are held in memory


@dataclass(frozen=True)
class DistillationLoss:
    """alpha · soft term + (1 - alpha) · cross-entropy with the labels, in nats, mean over the batch.

    temperature: divides the logits of both networks in the soft term, which is multiplied by its square; from
        1e-6 to 100: beyond, single precision makes the term noise, below zero even
    alpha: weight of the soft term; 1 needs no labels, 0 no teacher
    kind: "hinton", T²·KL(teacher ‖ student) (Hinton et al. 2015, arXiv:1503.02531); "doubled", twice that,
        as in a report this package grew out of; "class-mean", the mean over classes instead of their sum,
        that report's code, too weak by the number of classes; "soft-cross-entropy", hinton plus the
        teacher's entropy, which changes no gradient; "standardized", of z-scored logits (Sun et al. 2024,
        arXiv:2403.01427); "decoupled", target and other classes apart (Zhao et al. 2022, arXiv:2203.08679)
    beta: of "decoupled", the weight of the other classes
    class_axis: which axis of the logits is the classes: by default the one without which they have the
        labels' shape

    Dense maps (B, classes, H, W) and sequences (B, T, classes) are means over positions, those labelled -100
    left out. Computed in single precision at least.
    """

    temperature: float = 4.0
    alpha: float = 0.9
    kind: Kind = "hinton"
    beta: float = 8.0
    class_axis: int | None = None

    def __post_init__(self) -> None:
        checks.fields(self, FIELDS)
        if not 0 <= self.beta < MOST_BETA:
            raise InputError(f"beta must not be negative, and below {MOST_BETA:g}, found {self.beta}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha must lie in [0, 1], found {self.alpha}")

    def __call__(self, student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of student and teacher logits and class indices.

        Parameters
        ----------
        student, teacher: (B, classes), (B, classes, H, W) or (B, T, classes)
        targets: (B,), (B, H, W) or (B, T); with alpha=1 they may be anything, but for "decoupled" and where
            only they tell which axis is the classes

        Raises InputError if the two have different numbers of classes, or a single one, and for targets that
        are no class indices.

        >>> loss = DistillationLoss(temperature=2.0, alpha=1.0)
        >>> logits = torch.tensor([[1.0, 2.0]])
        >>> float(loss(logits, logits, torch.tensor([0])))
        0.0
        """
        labels: Tensor | None
        if self.alpha < 1 or self.kind == "decoupled":
            axis_one, labels = matched(student, targets, self.class_axis)
            hard = cross_entropy(axis_one, labels) if self.alpha < 1 else None
            axis = class_axis_of(student, labels, self.class_axis)
        else:
            hard, axis = None, self._axis(student, targets)
            labels = self._where_given(targets, student.shape[:axis] + student.shape[axis + 1 :])
        if self.alpha == 0:
            assert hard is not None
            return hard
        if student.shape != teacher.shape:
            raise InputError(
                f"student and teacher must have the same classes: their logits have shapes "
                f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        soft = self._soft_over_positions(student, teacher, labels, axis)
        return soft if hard is None else self.alpha * soft + (1 - self.alpha) * hard

    def _axis(self, logits: Tensor, targets: Any) -> int:
        """The class axis where no labels are needed; maps and (B, classes) have it second."""
        if self.class_axis is not None and self.class_axis % logits.dim() > 0:
            axis = self.class_axis % logits.dim()
        elif logits.dim() == 3:
            if not isinstance(targets, Tensor) or targets.dim() != 2:
                raise InputError(
                    f"logits {tuple(logits.shape)} without labels at each position: say which axis is the "
                    f"classes, DistillationLoss(class_axis=2) for sequences (B, T, classes)"
                )
            axis = class_axis_of(logits, targets)
        else:
            axis = 1
        if logits.dim() < 2 or logits.shape[axis] < 2:
            raise InputError(
                f"the student has a single output, {shown(logits)}, of which a softmax over classes says "
                f"nothing: train it with fit(student, data, objective=...) on the teacher's outputs"
            )
        return axis

    @staticmethod
    def _where_given(targets: Any, positions: Sequence[int]) -> Tensor | None:
        """Labels that are not needed but may say which positions to leave out."""
        known = isinstance(targets, Tensor) and targets.shape == positions and not targets.is_floating_point()
        return targets if known else None

    def _soft_over_positions(
        self, student: Tensor, teacher: Tensor, labels: Tensor | None, axis: int
    ) -> Tensor:
        if student.dim() > 2:
            student, teacher = (x.movedim(axis, -1).reshape(-1, x.shape[axis]) for x in (student, teacher))
        labels = labels.reshape(-1) if labels is not None else None
        if labels is not None and student.dim() == 2 and bool((labels == IGNORED).any()):
            counted = labels != IGNORED
            student, teacher, labels = student[counted], teacher[counted], labels[counted]
        wide = torch.float64 if student.dtype == torch.float64 else torch.float32
        return self.soft(student.to(wide), teacher.to(wide), labels)

    def soft(self, student: Tensor, teacher: Tensor, targets: Tensor | None) -> Tensor:
        """The soft term alone, before its weight: of (P, classes) logits, and (P,) labels for "decoupled"."""
        if self.kind == "standardized":
            student, teacher = _standardized(student), _standardized(teacher)
        log_q = F.log_softmax(student / self.temperature, dim=1)
        log_p = F.log_softmax(teacher / self.temperature, dim=1)
        square = self.temperature**2
        if self.kind == "decoupled":
            assert targets is not None
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


class DistillOptions(TypedDict, total=False):
    """How `distill` runs the teacher, and whom it tells how far it is."""

    mixup: bool
    cache: str | Path | None
    features: FeatureLoss | None
    progress: Progress


DISTILL_DEFAULTS: DistillOptions = {"mixup": False, "cache": None, "features": None, "progress": None}


@checks.arguments(
    student=checks.module,
    loss=checks.optional(checks.instance(DistillationLoss)),
    settings=checks.optional(checks.instance(TrainingSettings)),
    data=require_batches,
    mixup=checks.flag,
    cache=checks.optional(checks.path),
    features=checks.optional(checks.instance(FeatureLoss)),
)
@with_options(DISTILL_DEFAULTS)
def distill(
    student: nn.Module,
    teacher: nn.Module | Sequence[nn.Module],
    data: Batches,
    *,
    loss: DistillationLoss | None = None,
    settings: TrainingSettings | None = None,
    validation: Batches | None = None,
    **options: Unpack[DistillOptions],
) -> FitResult:
    """Train a copy of the student under a teacher, or several; none of those given is changed.

    Parameters
    ----------
    student, teacher: classifiers with the same classes, of samples or of each position; the teacher is run
        in evaluation mode only. Of several teachers the mean of their softened probabilities is learned, see
        `TeacherEnsemble`, which also takes weights
    data: as for `fit`; both see the very same batch, crop and all
    loss: see DistillationLoss
    mixup: mix every batch with a permutation of itself, by a share drawn uniformly from [0, 1] for each
        batch. With alpha=1, one crop for both, and a long cosine schedule this is function matching
        (Beyer et al. 2022, arXiv:2106.05237)
    cache: file for the teacher's outputs on `data`, computed once, in half precision, memory-mapped; for
        TensorBatches without augmentation and without mixup
    features: what layers put out is compared as well, see `compression.features`; without cache and mixup. A
        layer of the first of several teachers is named "teachers.0.NAME"

    Raises InputError for different numbers of classes, for a teacher whose outputs are not finite, for
    cached outputs of another teacher or data set, and where `fit` does.
    """
    loss = loss or DistillationLoss()
    settings = settings or TrainingSettings()
    teacher = _one(teacher, loss)
    mixup, cache, progress = options["mixup"], options["cache"], options["progress"]
    if options["features"] is not None:
        if mixup or cache is not None or settings.compile or settings.gradual is not None:
            raise InputError("features are compared without mixup, cache, compile and gradual pruning")
        return _with_features(student, teacher, (data, validation), loss, settings, options)
    if cache is not None:
        if mixup or not isinstance(data, TensorBatches):
            raise InputError("cached teacher outputs need TensorBatches, not augmented and not mixed up")
        taught = Taught(data, teacher_outputs(teacher, data, cache), loss.temperature)
        return fit(
            student, taught, settings=settings, validation=validation, progress=progress,
            objective=_under_cached_outputs(loss, data),
        )  # fmt: skip
    return fit(
        student, data, settings=settings, validation=validation, progress=progress,
        objective=objective(
            teacher, loss, mixup=mixup, seed=settings.seed, mixed_precision=settings.mixed_precision
        ),
    )  # fmt: skip


def _one(teacher: nn.Module | Sequence[nn.Module], loss: DistillationLoss) -> nn.Module:
    """The teacher, or the several as one that softens as the loss does."""
    if isinstance(teacher, nn.Module) and not isinstance(teacher, nn.ModuleList):
        return teacher
    if not isinstance(teacher, list | tuple | nn.ModuleList):
        require_module(teacher, "teacher")
    if loss.kind == "standardized":
        raise InputError(
            "standardized logits of several teachers have no mean that their paper defines: give one "
            "teacher, or another kind of loss"
        )
    return TeacherEnsemble([*teacher], temperature=loss.temperature, class_axis=loss.class_axis)


def _with_features(
    student: nn.Module, teacher: nn.Module, data: tuple[Batches, Batches | None], loss: DistillationLoss,
    settings: TrainingSettings, options: DistillOptions,
) -> FitResult:  # fmt: skip
    """A student trained on the teacher's features too; maps between their channels are trained, then left."""
    features, (train, validation) = options["features"], data
    assert features is not None
    pupil, master = clone(student), clone(teacher).eval()
    inputs = placed(next(iter(inputs_of(pupil, train))), next(pupil.parameters()).device)
    with torch.no_grad(), evaluation_mode(pupil), captured(pupil, [*features.layers], "student") as ours:
        run(pupil, inputs)
    master.to(next(pupil.parameters()).device)
    with torch.no_grad(), captured(master, [*features.layers.values()], "teacher") as theirs:
        run(master, placed(inputs, next(master.parameters()).device, dtype_of(master)))
    with torch.random.fork_rng():
        seed_generators(settings.seed)
        maps = adapters_for(features, ours, theirs)
    if maps:
        hold_adapters(pupil, maps.to(next(pupil.parameters()).device))
    taught = objective(teacher, loss, mixed_precision=settings.mixed_precision, features=features)
    result = fit(
        pupil, train, settings=settings, validation=validation, progress=options["progress"], objective=taught
    )
    for model in (result.model, result.snapshot):
        if model is not None:
            drop_adapters(model)
    return result


def objective(
    teacher: nn.Module,
    loss: DistillationLoss,
    *,
    mixup: bool = False,
    seed: int = 0,
    mixed_precision: Precision = "no",
    features: FeatureLoss | None = None,
) -> Objective:
    """The loss of a student under a teacher, as `fit` takes it; for training loops of one's own too.

    The teacher computes in `mixed_precision`, as the student does by its settings; the loss does not. With
    `features`, a student whose channels are not as many as the teacher's holds the maps between them, see
    `features.hold_adapters`.
    """
    require_weights(teacher)
    taught = _Master(clone(teacher).eval().requires_grad_(False), mixed_precision)
    if features is not None:
        return partial(_featured, taught, loss, features)
    generator = torch.Generator().manual_seed(seed)

    def plain(model: nn.Module, inputs: Any, targets: Any) -> Tensor:
        given = taught(inputs)
        return _student_loss(loss, run(model, inputs, targets), given, targets)

    def mixed(model: nn.Module, inputs: Any, targets: Any) -> Tensor:
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise InputError(f"mixup needs inputs that are one tensor of floats, found {shown(inputs)}")
        share = float(torch.rand((), generator=generator))
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        inputs = share * inputs + (1 - share) * inputs[order]
        given = taught(inputs)
        output = run(model, inputs)
        one, two = (_student_loss(loss, output, given, labels) for labels in (targets, targets[order]))
        return share * one + (1 - share) * two

    return mixed if mixup else plain


@dataclass(frozen=True)
class _Master:
    """A teacher that does not learn; called with a batch's inputs, it gives its logits."""

    frozen: nn.Module
    mixed_precision: Precision

    def __call__(self, inputs: Any) -> Tensor:
        device = next((tensor.device for tensor in tensors_in(inputs)), torch.device("cpu"))
        self.frozen.to(device)
        half = torch.float16 if self.mixed_precision == "fp16" else torch.bfloat16
        autocast = torch.autocast(device.type, half, enabled=self.mixed_precision != "no")
        with torch.no_grad(), autocast:
            return _finite(logits_for(self.frozen, inputs, device))


def _featured(
    taught: _Master,
    loss: DistillationLoss,
    features: FeatureLoss,
    model: nn.Module,
    inputs: Any,
    targets: Any,
) -> Tensor:
    """The loss of a student under a teacher's outputs and features."""
    pupil = getattr(model, "module", model)
    with captured(taught.frozen, [*features.layers.values()], "teacher") as theirs:
        given = taught(inputs)
    with captured(pupil, [*features.layers], "student") as ours:
        output = run(model, inputs, targets)
    return _student_loss(loss, output, given, targets) + features(ours, theirs, adapters_of(pupil))


def _under_cached_outputs(loss: DistillationLoss, data: TensorBatches) -> Objective:
    """The objective of batches of `Taught`; loss and slope are written out where labels are plain indices."""
    labels = data.targets
    plain = loss.kind in FUSED and loss.alpha > 0 and loss.class_axis is None
    plain = plain and labels.dim() == 1 and labels.dtype == torch.int64
    lowest, highest = map(int, labels.aminmax()) if plain else (IGNORED, 0)

    def taught(model: nn.Module, inputs: Any, pair: tuple[Tensor, Tensor]) -> Tensor:
        output, (targets, given) = run(model, inputs), pair
        if (
            lowest >= 0
            and isinstance(output, Tensor)
            and output.shape == given.shape
            and output.dtype == torch.float32
            and output.shape[-1] > max(highest, 1)
        ):
            weight = FUSED[loss.kind] / (output.shape[1] if loss.kind == "class-mean" else 1)
            terms = (loss.alpha * weight, loss.temperature, 1 - loss.alpha)
            return SoftTargetLoss.apply(output, given / loss.temperature, targets, terms)  # type: ignore[no-any-return]
        return _student_loss(loss, output, given, targets)

    return taught


def _student_loss(loss: DistillationLoss, output: Any, given: Tensor, targets: Any) -> Tensor:
    """The loss of all the student's heads under the teacher's main one."""
    if isinstance(output, Tensor):
        return loss(output, given, targets)
    heads, own = heads_of(output), own_loss(output)
    if own is not None and heads[0][1].dim() == 3:  # a sequence: its model may shift the labels inside
        targets = aligned(heads[0][1].movedim(2, 1), targets, own)
    return torch.stack([weight * loss(head, given, targets) for weight, head in heads]).sum()


def _finite(logits: Tensor) -> Tensor:
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the teacher's outputs are not finite: NaN or infinity teaches nothing")
    return logits


class Taught:
    """Batches whose targets are pairs of the targets given and the teacher's cached logits.

    The logits are shifted, which no softmax sees, so that divided by `temperature` they are logarithms of
    probabilities. Up to KEPT numbers stay in memory; more are read anew for each batch.
    """

    def __init__(self, batches: TensorBatches, outputs: np.ndarray, temperature: float) -> None:
        self.batches, self.outputs, self.temperature = batches, outputs, temperature
        few = outputs.size <= MOST_CACHED
        self.cached = self._shifted(outputs).to(batches.targets.device) if few else None

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        for rows, (inputs, targets) in zip(self.batches.rows(), self.batches, strict=True):
            yield inputs, (targets, self._given(rows).to(targets.device))

    def _given(self, rows: slice | Tensor) -> Tensor:
        if self.cached is not None:
            return self.cached[rows]
        return self._shifted(self.outputs[rows if isinstance(rows, slice) else rows.numpy()])

    def _shifted(self, outputs: np.ndarray) -> Tensor:
        logits = torch.from_numpy(np.asarray(outputs, dtype=np.float32))
        return torch.log_softmax(logits / self.temperature, 1).mul_(self.temperature)


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
    path = Path(path).with_suffix(".npy")
    with main_first(), hold_file(path):  # of several processes; the others find the file
        return _cached_outputs(teacher, data, path)


def _cached_outputs(teacher: nn.Module, data: TensorBatches, path: Path) -> np.ndarray:
    known = path.with_suffix(".json")
    if not path.exists():  # what is said of it must not outlive it
        known.unlink(missing_ok=True)
    data_content = replace(data, shuffle=False, batch_size=1, seed=0)
    facts = describe(teacher=teacher, data=data_content)
    if known.exists():
        stored = load_json(known)
        size, sha256 = (stored.pop(key, None) for key in ("file_bytes", "file_sha256"))
        different = sorted({key.partition(".")[0] for key in stored.keys() | facts.keys()
                            if stored.get(key) != facts.get(key)})  # fmt: skip
        if different:
            raise InputError(
                f"{path} holds outputs of another {' and '.join(different)}; choose another file or remove it"
            )
        if require_plain(path).stat().st_size != size:
            raise InputError(f"{path} is damaged: it has not the {size} bytes that were written; remove it")
        return mapped_rows(path, _shape_of(clone(teacher).eval(), data), str(sha256))
    frozen = clone(teacher).eval()
    shape, sha256 = _shape_of(frozen, data), ""

    def write(beside: Path) -> None:
        nonlocal sha256
        with RowWriter(beside, shape) as rows:
            for inputs, _ in replace(data, shuffle=False):
                rows.add(halved(_logits(frozen, inputs), "the teacher's logits"))
            sha256 = rows.save()

    write_atomically(path, write)
    save_json(known, facts | {"file_bytes": path.stat().st_size, "file_sha256": sha256})
    return mapped_rows(path, shape)


def _shape_of(frozen: nn.Module, data: TensorBatches) -> tuple[int, ...]:
    """(N, classes), or what else a teacher's logits on N rows have."""
    first = next(iter(replace(data, shuffle=False, batch_size=min(2, len(data.targets)))))[0]
    return len(data.targets), *_logits(frozen, first).shape[1:]


def _logits(frozen: nn.Module, inputs: Any) -> Tensor:
    """A teacher's logits on one batch, in single precision on the processor."""
    device = next((p.device for p in frozen.parameters()), torch.device("cpu"))
    with torch.no_grad():
        return _finite(logits_for(frozen, inputs, device)).float().cpu()
