"""fit(): the only training loop, on Accelerate; and evaluate(), see `compression.evaluation`."""

import copy
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Unpack

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import clone
from capacity.columns import counted, number
from capacity.errors import InputError
from capacity.inputs import as_integer, first_line, require_weights, shown
from capacity.seeding import seed_generators
from capacity.tables import Statement
from compression._moved import keep_old_names
from compression.counting import all_finite
from compression.dropout import neuron_dropout
from compression.epochs import (
    batches_of,
    length_of,
    require_anew,
    require_batches,
    train_mode,
    why_not_finite,
)
from compression.evaluation import Evaluation, evaluate
from compression.forms import dtype_of, placed
from compression.masks import Masks, apply_masks, lift_masks, masks_of, split_name
from compression.metrics import Metrics
from compression.objectives import ClassWeights, Objective, objective_of, require_scalar
from compression.options import REPORTED, ReportOptions, with_options
from compression.precision import check_precision
from compression.processes import gather_objects, joined, rank, shard_batch, world_size
from compression.progress import reporting
from compression.schedules import GradualPruning
from compression.targets import Target
from compression.trackers import Tracker, report, require_tracker
from compression.watching import Watch

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Evaluation",
    "FitResult",
    "Objective",
    "Retrain",
    "TrainingSettings",
    "evaluate",
    "fit",
    "model_of",
]

Batches = Iterable[Any]
LOGGER = logging.getLogger("compression")
Precision = Literal["no", "fp16", "bf16"]
CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("cosine", "constant"),
    "mixed_precision": ("no", "fp16", "bf16"),
}


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Rates are per step of the optimizer, lengths in epochs.

    A step's rate is that of its end; in epochs of one step, or of unknown length, that of the epoch's middle.

    `schedule` "cosine" anneals the learning rate to zero, "constant" keeps it; both rise linearly over
    `warmup_epochs` first. `compile` runs the network through torch.compile. With `patience`, training stops
    after that many epochs without a better validation score and goes back to the best one; `watch` names the
    score, "macro_f1" or one of your metrics, by default the top-1 error, or the loss where there are no
    classes. `class_weights` are what a sample of each class weighs in the cross-entropy, one number a class,
    or "balanced" for samples / (classes * samples of the class).
    `neuron_dropout` maps a layer to how many of its neurons are silenced in each batch. `gradual` prunes
    while training goes on. To rewind, keep a snapshot after `snapshot_epoch` epochs, and later train from
    `start_epoch` to `epochs` again.
    """

    epochs: int = 10
    start_epoch: int = 0
    snapshot_epoch: int | None = None
    learning_rate: float = 0.05
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    patience: int | None = None
    watch: str = ""
    class_weights: ClassWeights | None = None
    neuron_dropout: Mapping[str, int] = field(default_factory=dict)
    gradual: GradualPruning | None = None
    mixed_precision: Precision = "no"
    compile: bool = False
    seed: int = 0


@dataclass(frozen=True)
class FitResult(Statement):
    """A trained copy of the model, a history with one entry per epoch, and the snapshot asked for.

    An entry holds `training_loss_nats`, the mean of what was minimized, the learning rate, and of validation
    data `validation_top1_error`, or `validation_loss` where there are no classes, what was watched, and
    metrics of one's own as `validation_NAME`.
    """

    model: nn.Module
    history: tuple[Mapping[str, float], ...]
    stopped_early: bool = False
    snapshot: nn.Module | None = None

    def to_frame(self) -> "pd.DataFrame":
        """A row per epoch: training loss in nats, learning rate, validation top-1 error where measured."""
        import pandas as pd

        return pd.DataFrame(self.history)

    def __str__(self) -> str:
        ended = ", stopped early" if self.stopped_early else ""
        last = self.history[-1] if self.history else {}
        known = {name.replace("_", " "): value for name, value in last.items() if value == value}
        figures = "".join(f"; {name} {number(value)}" for name, value in known.items())
        return f"trained for {counted(len(self.history), 'epoch')}{ended}{figures}"


Retrain = Callable[[nn.Module], nn.Module | FitResult]


def model_of(result: Any) -> nn.Module:
    """A model itself, or the one that a result holds: what `fit` and every other function here returns.

    Raises InputError for anything else, as what a loop returns that forgot to.
    """
    model = result if isinstance(result, nn.Module) else getattr(result, "model", None)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"retrain and techniques must return the model, as `return model`, or a result that holds it as "
            f".model, as fit does; found {shown(result)}"
        )
    return model


@checks.arguments(
    data=require_batches,
    settings=checks.optional(checks.instance(TrainingSettings)),
    validation=checks.optional(require_batches),
)
@with_options(REPORTED)
def fit(
    model: nn.Module,
    data: Batches,
    *,
    settings: TrainingSettings | None = None,
    validation: Batches | None = None,
    objective: Objective | str | None = None,
    metrics: Metrics = None,
    **reports: Unpack[ReportOptions],
) -> FitResult:
    """Train a copy of the model; masks stay masks, frozen parameters stay frozen.

    Parameters
    ----------
    data: yields batches, anew for each epoch: `TensorBatches`, a DataLoader or a list. A batch is (inputs,
        class indices) or a mapping with "labels"; see `compression.forms` for the forms of batch and output
    settings: see TrainingSettings
    validation: batches to score after each epoch; needed for `patience`
    objective: (model, inputs, targets) -> scalar loss; by default the cross-entropy of the logits, the
        model's own `loss` where it returns one, and 0.3 of the loss of auxiliary heads besides. "mse" is for
        numbers, "bce" for several labels to a sample (see `compression.objectives`): their mean on
        `validation` is then watched. Anything else needs a callable
    metrics: scores of one's own on `validation`, by name: torchmetrics objects or functions, see
        `compression.metrics`
    progress: called with (epochs done, epochs) after each epoch; True shows a bar, on a terminal and in
        notebooks. The logger "compression" tells each epoch anyway, at level INFO
    tracker: called with (the entry of the history, epochs done) after each epoch: `wandb.log`,
        `mlflow.log_metrics`, or one of `compression.trackers`

    A model whose convolutions lie channels last (`model.to(memory_format=torch.channels_last)`) trains so.
    With `mixed_precision` "bf16" products are in bfloat16, which is refused where the machine imitates it.

    Batch norms in evaluation mode with frozen parameters stay so, and so does any module in evaluation mode
    inside a model in training mode, also when the result is trained again; `model.train()` thaws it. Where
    batch norms learn, a last batch of one sample is joined to the one before. Floats among the inputs take
    the model's number type.

    Under torchrun every process trains on its share of each batch, with the same result up to float
    summation; batch norms see the share only. The same seed, data and machine give the same bytes. Torch's
    global generator is left as it was.

    Raises InputError for settings that cannot be, for `patience` or `metrics` without validation data, for
    targets and outputs that the loss does not fit, for metrics that fail or are no numbers, and for a loss or
    weights that are not finite.
    """
    settings = settings or TrainingSettings()
    check_training(settings, validation)
    _check_call(model, data, settings, validation, metrics)
    require_tracker(tracker := reports["tracker"])
    copied = train_mode(clone(model))
    masks = masks_of(copied)
    lift_masks(copied)  # masking once after each step is cheaper than in every forward and backward
    trainable = [parameter for parameter in copied.parameters() if parameter.requires_grad]
    if not trainable:
        raise InputError("the model has no trainable parameters: requires_grad is off for all of them")
    with torch.random.fork_rng():
        seed_generators(settings.seed)
        chosen = objective_of(objective, data, settings.class_weights)
        loop = _loop(copied, trainable, settings, chosen)
        loop.mask(masks)
        watch = None if validation is None else Watch(validation, chosen, metrics, settings.watch)
        try:
            with reporting(reports["progress"], settings.epochs, "epochs") as on_epoch:
                fitted = loop.run(data, watch, _after_epoch(settings, on_epoch, tracker))
        except FloatingPointError as error:
            raise InputError(f"training diverged: {error}; {why_not_finite(model, data)}") from None
    apply_masks(fitted.model, loop.masks)
    if fitted.snapshot is not None:
        later = {name: torch.ones_like(mask) for name, mask in masks_of(fitted.snapshot).items()}
        apply_masks(fitted.snapshot, later | masks)
    return fitted


AfterEpoch = Callable[[Mapping[str, float]], None]


def _after_epoch(
    settings: TrainingSettings, on_epoch: Callable[[int, int], None] | None, tracker: Tracker | None
) -> AfterEpoch:
    """What is done with each entry of the history; the first of several processes logs and tracks."""

    def tell(entry: Mapping[str, float]) -> None:
        done = int(entry["epoch"])
        if rank() == 0:
            numbers = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in entry.items() if k != "epoch")
            LOGGER.info("epoch %d of %d: %s", done, settings.epochs, numbers)
            report(tracker, entry, done)
        if on_epoch is not None:
            on_epoch(done, settings.epochs)

    return tell


def _check_call(
    model: nn.Module, data: Batches, settings: TrainingSettings, validation: Batches | None, metrics: Metrics
) -> None:
    """Raise InputError for what does not belong together."""
    if metrics is not None and validation is None:
        raise InputError("metrics are scored on validation data: give validation=")
    require_weights(model)
    require_batches("data", data)
    if validation is not None:
        require_batches("validation", validation)
    require_anew(data, settings.epochs - settings.start_epoch)
    if settings.gradual is not None and length_of(data) is None:
        raise InputError("gradual pruning needs data with a length, to know how far an epoch has come")


def _loop(
    model: nn.Module, trainable: list[nn.Parameter], settings: TrainingSettings, objective: Objective
) -> "_Loop":
    """The training loop on this process's device."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # else the first precision of a process would be the only one
    if world_size() > 1:
        joined()
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    check_precision(settings.mixed_precision, accelerator.device)
    model.to(accelerator.device)
    trained: Any = accelerator.prepare(model)
    optimizer = _optimizer(settings, trainable)
    if settings.compile:
        trained = torch.compile(trained)
    if settings.mixed_precision == "fp16":  # the wrapper scales gradients, which costs 0.3 ms a step
        optimizer = accelerator.prepare(optimizer)
    return _Loop(trained, optimizer, accelerator, settings, objective)


FIELDS: Mapping[str, checks.Check] = {
    **dict.fromkeys(("learning_rate", "momentum", "weight_decay", "warmup_epochs"), checks.plain),
    **{name: checks.word(*known) for name, known in CHOICES.items()},
    "watch": checks.instance(str), "epochs": checks.count, "patience": checks.optional(checks.count),
    "gradual": checks.optional(checks.instance(GradualPruning)), "compile": checks.flag,
    "start_epoch": checks.count, "snapshot_epoch": checks.optional(checks.count), "seed": checks.count,
    "neuron_dropout": checks.instance(Mapping),
}  # fmt: skip


def check_training(settings: TrainingSettings, validation: Batches | None) -> None:
    """Raise InputError for settings that cannot be."""
    if not isinstance(settings, TrainingSettings):
        raise InputError(f"settings must be TrainingSettings(epochs=..., ...), found {shown(settings)}")
    checks.fields(settings, FIELDS)
    as_integer("epochs", settings.epochs)
    if not 0 <= settings.start_epoch < settings.epochs:
        raise InputError(
            f"start_epoch must lie between 0 and {settings.epochs - 1}, found {settings.start_epoch}"
        )
    snapshot = settings.snapshot_epoch
    if snapshot is not None and not settings.start_epoch <= snapshot <= settings.epochs:
        raise InputError(
            f"snapshot_epoch must lie between {settings.start_epoch} and {settings.epochs}, found {snapshot}"
        )
    if not 0 < settings.learning_rate < math.inf:
        raise InputError(f"learning_rate must be positive and finite, found {settings.learning_rate}")
    for name in ("weight_decay", "warmup_epochs"):
        if not 0 <= getattr(settings, name) < math.inf:
            raise InputError(f"{name} must not be negative, and finite, found {getattr(settings, name)}")
    if not 0 <= settings.momentum < 1:
        raise InputError(f"momentum must lie in [0, 1), found {settings.momentum}")
    if settings.watch and settings.patience is None:
        raise InputError(f"watch={settings.watch!r} says which epoch is the best, for patience: give both")
    if settings.patience is not None:
        as_integer("patience", settings.patience)
        if validation is None:
            raise InputError("patience needs validation data to watch")
    if settings.gradual is not None:
        settings.gradual.check(settings.epochs)
        if settings.patience is not None:
            raise InputError("patience would go back to a less sparse network: leave it out with gradual")


def _optimizer(settings: TrainingSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    fused = all(parameter.is_floating_point() for parameter in parameters)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=rate,
            momentum=settings.momentum,
            weight_decay=decay,
            nesterov=settings.momentum > 0,
            fused=fused,
        )
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=fused)


def learning_rate_factor(epoch: float, settings: TrainingSettings) -> float:
    """The share of the learning rate in force at a (fractional) epoch.

    >>> settings = TrainingSettings(epochs=4, warmup_epochs=1)
    >>> [round(learning_rate_factor(epoch, settings), 3) for epoch in (0.5, 1, 2.5, 4)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    if settings.schedule == "constant":
        return 1.0
    span = max(settings.epochs - settings.warmup_epochs, 1e-9)
    return (1 + math.cos(math.pi * min(1.0, (epoch - settings.warmup_epochs) / span))) / 2


def _dropped_rows(mask: Tensor) -> Tensor | None:
    """Which rows a mask drops, where it keeps or drops rows as a whole; None where it does not."""
    flat = mask.bool().flatten(1) if mask.dim() > 1 else mask.bool().view(-1, 1)
    first = flat[:, 0]
    return (~first).nonzero()[:, 0] if bool((flat == first[:, None]).all()) else None


class _Loop:
    """One training run."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        accelerator: Any,
        settings: TrainingSettings,
        objective: Objective,
    ) -> None:
        self.model, self.optimizer, self.accelerator = model, optimizer, accelerator
        self.settings, self.objective = settings, objective
        self.plain = accelerator.unwrap_model(  # autocast is the loop's
            model, keep_fp32_wrapper=False, keep_torch_compile=False
        )
        self.scaled, self.mixed = settings.mixed_precision == "fp16", settings.mixed_precision != "no"
        self.shared = world_size() > 1
        self.dtype = dtype_of(self.plain)
        self.trained = [parameter for parameter in self.plain.parameters() if parameter.requires_grad]
        self.updates, self.targets = 0, dict[str, Target]()  # of the gradual schedule
        self.mask({})

    @torch.no_grad()
    def mask(self, masks: Masks) -> None:
        """Keep the parameters that the masks drop at zero."""
        self.masks = masks
        self.masked: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.rows: list[tuple[Tensor, Tensor]] = []  # of masks that drop whole neurons: which to set to zero
        for name, mask in masks.items():
            module, key = split_name(self.plain, name)
            if key not in module._parameters:  # weight norm or the like computes it, and then it is masked
                apply_masks(self.plain, {name: mask})
                continue
            parameter = module.get_parameter(key)
            rows = _dropped_rows(mask)
            if rows is None:
                self.masked[0].append(parameter)
                self.masked[1].append(torch.empty_like(parameter).copy_(mask))  # in its own layout
            elif len(rows):
                self.rows.append((parameter, rows.to(parameter.device)))
            for state in self.optimizer.state.get(parameter, {}).values():
                if isinstance(state, Tensor) and state.shape == mask.shape:
                    state.mul_(mask.to(state.device))  # no momentum for what is gone

    @torch.no_grad()
    def _apply(self) -> None:
        for parameter, rows in self.rows:
            parameter.index_fill_(0, rows, 0.0)
        if self.masked[0]:
            torch._foreach_mul_(*self.masked)

    def run(self, data: Batches, watch: Watch | None, tell: AfterEpoch) -> FitResult:
        settings = self.settings
        history: list[dict[str, float]] = []
        best, since = None, 0
        snapshot = self._weights() if settings.snapshot_epoch == settings.start_epoch else None
        dropping = settings.neuron_dropout
        dropout = neuron_dropout(self.plain, dropping, seed=settings.seed) if dropping else nullcontext()
        with dropout:
            for epoch in range(settings.start_epoch, settings.epochs):
                entry = self._epoch(data, epoch)
                if watch is not None:
                    scores, better = watch.score(self.plain)
                    entry |= scores
                    since = 0 if better else since + 1
                    if settings.patience is not None and better:
                        best = self._weights()
                history.append(entry)
                if settings.snapshot_epoch == epoch + 1:
                    snapshot = self._weights()
                tell(entry)
                if settings.patience is not None and since >= settings.patience:
                    break
        if best is not None:
            self.plain.load_state_dict(best)
        elif settings.patience is not None and watch is not None and history:
            raise InputError(
                f"{watch.name!r}, which says the best epoch, was no finite number after any of "
                f"{len(history)} epochs: watch another score"
            )
        for name, parameter in self.plain.named_parameters():
            if not all_finite(parameter):
                raise FloatingPointError(f"{name!r} is not finite after epoch {history[-1]['epoch']}")
        self.optimizer.zero_grad(set_to_none=True)
        stopped = len(history) < settings.epochs - settings.start_epoch
        early = None
        if snapshot is not None:
            early = clone(self.plain).eval()
            early.load_state_dict(snapshot, strict=False)  # masks may have come later, over weight norms
        self.plain.eval()  # whose own return value an exported graph leaves out
        return FitResult(self.plain, tuple(history), stopped, early)

    def _weights(self) -> dict[str, Any]:
        state = self.plain.state_dict().items()
        return {key: v.clone() if isinstance(v, Tensor) else copy.deepcopy(v) for key, v in state}

    def _epoch(self, data: Batches, epoch: int) -> dict[str, float]:
        if hasattr(data, "set_epoch"):
            data.set_epoch(epoch)
        steps = length_of(data)
        device, model, optimizer, kind = self.accelerator.device, self.model, self.optimizer, self.dtype
        losses = torch.zeros((), device=device)
        done, count, rate = 0, 0, 0.0
        for inputs, targets, batches in batches_of(data, self.plain, world_size()):
            done += batches
            length = steps or batches
            rate = self._set_rate(epoch + (done / length if batches < length else 0.5))
            for parameter in self.trained:  # what zero_grad does, without the record it keeps for profilers
                parameter.grad = None
            inputs, targets, weight = shard_batch(inputs, targets, getattr(self.objective, "mass", None))
            with self.accelerator.autocast() if self.mixed else nullcontext():
                loss = self.objective(model, placed(inputs, device, kind), placed(targets, device))
            require_scalar(loss)
            loss = loss if weight == 1 else weight * loss
            self._backward(loss)
            optimizer.step()
            if self.settings.gradual is not None and steps:
                self._prune_gradually(self.settings.gradual, epoch + done / steps)
            self._apply()
            losses += loss.detach()
            count += 1
        if count == 0:
            raise InputError("there is no training data")
        mean = sum(gather_objects(float(losses))) / world_size() / count
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean} in epoch {epoch + 1}")
        return {"epoch": epoch + 1, "training_loss_nats": mean, "learning_rate": rate}

    def _backward(self, loss: Tensor) -> None:
        if not loss.requires_grad:
            raise InputError(
                "objective must return a scalar loss of what the model computed, found a number that depends "
                "on no weight"
            )
        if self.scaled:
            self.accelerator.backward(loss)
        else:
            try:
                loss.backward()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise InputError(
                    f"the gradients of this loss cannot be computed: {first_line(error)}"
                ) from error
        if self.shared:  # later, the processes would wait for these gradients and end in an error of theirs
            idle = [n for n, p in self.plain.named_parameters() if p.requires_grad and p.grad is None]
            if idle:
                raise InputError(
                    f"no output depends on {', '.join(idle)}, which training in several processes cannot "
                    f"have: set requires_grad to False for them"
                )
            self.shared = False

    def _prune_gradually(self, schedule: GradualPruning, epoch: float) -> None:
        due = schedule.due(epoch)
        if due > self.updates:
            self.updates, masks = due, dict(self.masks)
            self.targets = self.targets or schedule.targets(self.plain)
            schedule.extend(self.plain, masks, due, self.targets)
            self.mask(masks)

    def _set_rate(self, epoch: float) -> float:
        rate: float = self.settings.learning_rate * learning_rate_factor(epoch, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate


keep_old_names(__name__)
