"""fit_together(): many small networks trained at once as one stack, each as `fit` would train it alone."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import clone
from capacity.errors import InputError
from capacity.inputs import require_weights
from compression.batches import TensorBatches
from compression.epochs import require_batches, train_mode, why_not_finite
from compression.forms import placed
from compression.labels import check_range, span
from compression.masks import apply_masks, lift_masks
from compression.objectives import Objective
from compression.precision import check_precision
from compression.processes import own_device, world_size
from compression.stacks import Stack, chain_of
from compression.training import FitResult, TrainingSettings, check_training, fit, learning_rate_factor

LOGGER = logging.getLogger("compression")
SAME = ("epochs", "start_epoch", "optimizer", "mixed_precision")  # what the settings of one stack share
VECTOR = 16  # numbers that are computed with at once: torch does so along the last axis of as many or more
THREADED = 2**22  # multiply-adds of a step's forward pass, from which on threads help more than they hinder
ALONE = ("patience", "neuron_dropout", "gradual", "compile", "snapshot_epoch", "class_weights")


@checks.arguments(
    models=checks.each(checks.module),
    data=checks.each(require_batches),
    objective=checks.optional(checks.function(3)),
    progress=checks.optional(checks.function(2)),
)
def fit_together(
    models: Sequence[nn.Module],
    data: Sequence[TensorBatches],
    *,
    settings: Sequence[TrainingSettings] | TrainingSettings | None = None,
    objective: Objective | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[FitResult]:
    """Train a copy of each model on its own data by its own settings, all of them at once.

    The results are those of `fit(model, data, settings=...)` for each in turn, up to float summation: seed,
    order of the data, masks, learning rate and weight decay are every model's own. Which models are trained
    beside it changes no bit of a result. Models that cannot be stacked are trained one after another, which
    the logger "compression" says with the reason; see `why_alone`.

    Parameters
    ----------
    models: stacked are those whose dense and elementwise layers run one after another, all of the same sizes
    data: TensorBatches for each model, of the same number of samples and the same batch size where stacked
    settings: for each model, or for all
    objective: as for `fit`, called for each model with a function of its inputs instead of the model, which
        may be called once; by default the cross-entropy of the logits
    progress: called with (epochs done, epochs) after each epoch of the stack, or of each model trained alone

    Raises InputError where `fit` does, and for sequences of different lengths.
    """
    given = (
        list(settings)
        if isinstance(settings, Sequence) and not isinstance(settings, str)
        else [TrainingSettings() if settings is None else settings] * len(models)
    )
    checks.each(checks.instance(TrainingSettings))("settings", given)
    if not len(models) == len(data) == len(given):
        raise InputError(
            f"each model needs its data and settings: found {len(models)} models, data for {len(data)} and "
            f"settings for {len(given)}"
        )
    tasks = [_Task(k, *one) for k, one in enumerate(zip(models, data, given, strict=True))]
    results: dict[int, FitResult] = {}
    for group in _groups(tasks, objective):
        reason = why_alone(group[0].model, group[0].data, group[0].settings, objective)
        if reason is None:
            trained = _stacked(group, objective, progress)
        else:
            LOGGER.info("trained one by one: %s", reason)
            trained = [
                fit(task.model, task.data, settings=task.settings, objective=objective, progress=progress)
                for task in group
            ]
        results |= {task.number: one for task, one in zip(group, trained, strict=True)}
    return [results[number] for number in range(len(tasks))]


@dataclass(frozen=True)
class _Task:
    """One training, and which of all it is."""

    number: int
    model: nn.Module
    data: TensorBatches
    settings: TrainingSettings


def why_alone(
    model: nn.Module, data: Any, settings: TrainingSettings, objective: Objective | None = None
) -> str | None:
    """Why such a training cannot be one of several in a stack; None where it can."""
    if world_size() > 1:
        return "several processes share each training"
    default = TrainingSettings()
    for name in ALONE:
        if getattr(settings, name) != getattr(default, name):
            return f"settings ask for {name}"
    if settings.mixed_precision == "fp16":
        return "settings ask for mixed_precision 'fp16', whose gradients are scaled by their size"
    if not isinstance(data, TensorBatches):
        return f"data is a {type(data).__name__}, not TensorBatches"
    require_weights(model)
    chain = chain_of(model)
    if isinstance(chain, str):
        return chain
    targets = data.targets
    if objective is None and (targets.dim() != 1 or targets.dtype != torch.int64 or int(targets.min()) < 0):
        return "the targets are not one class index, as int64, for each sample"
    return None


def _groups(tasks: Sequence[_Task], objective: Objective | None) -> list[list[_Task]]:
    """Tasks that can be one stack, or that are to be trained alone."""
    groups: dict[Any, list[_Task]] = {}
    for task in tasks:
        key: Any = task.number
        chain = chain_of(task.model)
        if why_alone(task.model, task.data, task.settings, objective) is None and isinstance(chain, list):
            sizes = [(name, _kind(layer)) for name, layer in chain]
            kinds = [(p.dtype, p.device) for p in task.model.parameters()]
            batches = (len(task.data.targets), task.data.batch_size, tuple(task.data.inputs.shape[1:]))
            key = str((sizes, kinds, batches, [getattr(task.settings, name) for name in SAME]))
        groups.setdefault(key, []).append(task)
    return list(groups.values())


def _kind(layer: nn.Module) -> str:
    """What layers of one stack have in common; a mask is not part of it."""
    if isinstance(layer, nn.Linear):
        return f"{layer.in_features}-{layer.out_features}-{layer.bias is not None}"
    return str(layer)


def _stacked(
    tasks: Sequence[_Task], objective: Objective | None, progress: Callable[[int, int], None] | None
) -> list[FitResult]:
    """A stack for each thread, which needs no other until the end; of little work one for all."""
    threads = torch.get_num_threads()
    weights = sum(parameter.numel() for parameter in tasks[0].model.parameters())
    work = len(tasks) * min(tasks[0].data.batch_size, len(tasks[0].data.targets)) * weights
    parts = min(threads, len(tasks)) if own_device().type == "cpu" and work >= THREADED else 1
    stop = Event()
    own = [tasks[part::parts] for part in range(parts)]
    ensembles = [_Ensemble(part, objective, stop) for part in own]
    with ThreadPoolExecutor(parts) as pool:
        try:
            others = [pool.submit(one.run, None) for one in ensembles[1:]]
            trained = [ensembles[0].run(progress), *(other.result() for other in others)]
        finally:
            stop.set()
            torch.set_num_threads(threads)
    stacked = {
        task.number: one
        for part, results in zip(own, trained, strict=True)
        for task, one in zip(part, results, strict=True)
    }
    return [stacked[task.number] for task in tasks]


class _Ensemble:
    """One stack in training, on one thread, until `stop` is set."""

    def __init__(self, tasks: Sequence[_Task], objective: Objective | None, stop: Event) -> None:
        self.settings = [task.settings for task in tasks]
        self.data = [replace(task.data) for task in tasks]  # the caller's stay at their epoch
        for one in self.settings:
            check_training(one, None)
        self.tasks, self.stop = tasks, stop
        self.copies = [train_mode(clone(task.model)) for task in tasks]
        self.masks = [lift_masks(copied) for copied in self.copies]
        device = own_device()
        check_precision(self.settings[0].mixed_precision, device)
        products = torch.bfloat16 if self.settings[0].mixed_precision == "bf16" else None
        self.stack = Stack([copied.to(device) for copied in self.copies], products)
        self.loss = _Loss(objective)
        if objective is None:
            outputs = [layer.out_features for _, layer in self.stack.chain if isinstance(layer, nn.Linear)]
            for batches in self.data:
                check_range(*span(batches.targets), outputs[-1])
        self.optimizer = self._optimizer()
        self.mask: Tensor | None = None
        if any(self.masks):
            self.mask = torch.ones_like(self.stack.values)
            for row, masks in enumerate(self.masks):
                self.stack.load(row, masks, into=self.mask)

    def _optimizer(self) -> torch.optim.Optimizer:
        """One for all; a group of parameters for each where their rates differ."""
        values, slopes = self.stack.values, self.stack.slopes
        values.grad = slopes
        own = self.settings
        rates = {(one.learning_rate, one.weight_decay, one.momentum, one.warmup_epochs) for one in own}
        if len(rates | {one.schedule for one in own}) == 2:
            groups: list[dict[str, Any]] = [{"params": [values], "settings": own[0]}]
        else:
            groups = [{"params": [values[row]], "settings": one} for row, one in enumerate(own)]
            for row, group in enumerate(groups):
                group["params"][0].grad = slopes[row]
        for group in groups:
            one = group["settings"]
            group |= {"lr": one.learning_rate, "weight_decay": one.weight_decay}
            if one.optimizer == "sgd":
                group |= {"momentum": one.momentum, "nesterov": one.momentum > 0}
        return (torch.optim.SGD if own[0].optimizer == "sgd" else torch.optim.AdamW)(groups, fused=True)

    def run(self, progress: Callable[[int, int], None] | None) -> list[FitResult]:
        """All epochs; the CPU's other threads have stacks of their own."""
        if self.stack.values.device.type == "cpu":
            torch.set_num_threads(1)
        try:
            return self._run(progress)
        except BaseException:
            self.stop.set()
            raise

    def _run(self, progress: Callable[[int, int], None] | None) -> list[FitResult]:
        first = self.settings[0]
        histories: list[list[dict[str, float]]] = [[] for _ in self.tasks]
        for epoch in range(first.start_epoch, first.epochs):
            if self.stop.is_set():
                return []
            losses = self._epoch(epoch)
            for place, loss in enumerate(losses.tolist()):
                self._require_finite(self.tasks[place], loss, epoch)
                group = self.optimizer.param_groups[min(place, len(self.optimizer.param_groups) - 1)]
                entry = {"epoch": epoch + 1, "training_loss_nats": loss, "learning_rate": group["lr"]}
                histories[place].append(entry)
            if progress is not None:
                progress(epoch + 1, first.epochs)
        return [self._fitted(place, history) for place, history in enumerate(histories)]

    def _require_finite(self, task: _Task, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise InputError(
                f"training of network {task.number} diverged: the loss is {loss} in epoch {epoch + 1}; "
                f"{why_not_finite(task.model, task.data)}"
            )

    def _fitted(self, place: int, history: list[dict[str, float]]) -> FitResult:
        model = self.copies[place]
        if not bool(self.stack.values[place].isfinite().all()):
            raise InputError(
                f"training of network {self.tasks[place].number} diverged: its weights are not finite; "
                f"a lower learning rate may help"
            )
        self.stack.unload(place, model)
        apply_masks(model.eval(), self.masks[place])
        return FitResult(model, tuple(history))

    def _epoch(self, epoch: int) -> Tensor:
        """Mean loss of each network."""
        stack, optimizer = self.stack, self.optimizer
        steps = len(self.data[0])
        losses = torch.zeros(len(stack.values), device=stack.values.device)
        for done, (inputs, targets) in enumerate(self._batches(epoch), start=1):
            position = epoch + (done / steps if steps > 1 else 0.5)
            for group in optimizer.param_groups:
                one = group["settings"]
                group["lr"] = one.learning_rate * learning_rate_factor(position, one)
            output, given = stack.forward(inputs)
            loss, slope = self.loss(output, targets)
            stack.backward(given, output, slope)
            optimizer.step()
            if self.mask is not None:
                with torch.no_grad():
                    stack.values.mul_(self.mask)
            losses += loss
        return losses / steps

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(S, B, inputs) and (S, B, ...) targets of each step."""
        device, dtype = self.stack.values.device, self.stack.values.dtype
        own = self.data
        for batches in own:
            batches.set_epoch(epoch)
        shared = all(b.inputs is own[0].inputs and b.targets is own[0].targets for b in own)
        if shared and all(b.augment is None for b in own) and own[0].shuffle:
            for rows in zip(*(batches.rows() for batches in own), strict=True):
                flat = torch.cat(rows)
                inputs = own[0].taken(flat).view(len(own), len(rows[0]), -1)
                targets = own[0].targets[flat].view(len(own), len(rows[0]), *own[0].targets.shape[1:])
                yield placed(inputs, device, dtype), placed(targets, device)
            return
        for parts in zip(*own, strict=True):
            inputs, targets = (torch.stack(part) for part in zip(*parts, strict=True))
            yield placed(inputs.flatten(2), device, dtype), placed(targets, device)


def _log_softmax(logits: Tensor) -> Tensor:
    """Over the classes of (S, B, classes); few lie side by side as samples do, which is ten times as fast."""
    if logits.shape[2] >= VECTOR:
        return torch.log_softmax(logits, 2)
    return torch.log_softmax(logits.transpose(1, 2).contiguous(), 1).transpose(1, 2).contiguous()


@torch.no_grad()
def _cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropies (S,) of (S, B, classes) and (S, B), and their slope."""
    count, index = logits.shape[1], targets[:, :, None]
    slope = _log_softmax(logits)
    losses = slope.gather(2, index).mean((1, 2)).neg_()
    slope.exp_().scatter_add_(2, index, slope.new_full((1, 1, 1), -1.0).expand(index.shape))
    return losses, slope.div_(count)


class _Loss:
    """Losses (S,) of (S, B, outputs), and the gradient of their sum."""

    def __init__(self, objective: Objective | None) -> None:
        self.objective = objective

    def __call__(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        leaf = output.detach().float() if output.dtype == torch.bfloat16 else output.detach()
        if self.objective is None:
            return _cross_entropy(leaf, targets)
        leaf.requires_grad_()
        each = torch.func.vmap(self._own)(leaf, targets)
        (slope,) = torch.autograd.grad(each.sum(), leaf)
        return each.detach(), slope

    def _own(self, output: Tensor, targets: Tensor) -> Tensor:
        assert self.objective is not None
        objective: Any = self.objective
        return objective(lambda _: output, None, targets)  # type: ignore[no-any-return]
