"""fit_together(): many small networks trained at once as one stack, each as `fit` would train it alone."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity.cloning import clone
from capacity.errors import InputError
from compression.batches import TensorBatches
from compression.epochs import train_mode, why_not_finite
from compression.forms import placed
from compression.labels import check_range, span
from compression.masks import apply_masks, lift_masks
from compression.objectives import Objective
from compression.processes import own_device, world_size
from compression.stacks import Stack, chain_of
from compression.training import FitResult, TrainingSettings, check_training, fit, learning_rate_factor

LOGGER = logging.getLogger("compression")
SAME = ("epochs", "start_epoch", "optimizer")  # what the settings of one stack share
ALONE = ("patience", "neuron_dropout", "gradual", "compile", "snapshot_epoch")


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
        list(settings) if isinstance(settings, Sequence) else [settings or TrainingSettings()] * len(models)
    )
    if not len(models) == len(data) == len(given):
        raise InputError(
            f"each model needs its data and settings: found {len(models)} models, data for {len(data)} and "
            f"settings for {len(given)}"
        )
    found: dict[int, FitResult] = {}
    for places in _groups(models, data, given, objective):
        part = [models[k] for k in places], [data[k] for k in places], [given[k] for k in places]
        reason = why_alone(part[0][0], part[1][0], part[2][0], objective)
        if reason is None:
            trained: list[FitResult] = _Ensemble(*part, objective).run(progress)
        else:
            LOGGER.info("trained one by one: %s", reason)
            trained = [
                fit(model, batches, settings=one, objective=objective, progress=progress)
                for model, batches, one in zip(*part, strict=True)
            ]
        found |= dict(zip(places, trained, strict=True))
    return [found[place] for place in range(len(models))]


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
    if settings.mixed_precision != "no":
        return f"settings ask for mixed_precision {settings.mixed_precision!r}"
    if not isinstance(data, TensorBatches):
        return f"data is a {type(data).__name__}, not TensorBatches"
    chain = chain_of(model)
    if isinstance(chain, str):
        return chain
    targets = data.targets
    if objective is None and (targets.dim() != 1 or targets.dtype != torch.int64 or int(targets.min()) < 0):
        return "the targets are not one class index, as int64, for each sample"
    return None


def _groups(
    models: Sequence[nn.Module],
    data: Sequence[Any],
    settings: Sequence[TrainingSettings],
    objective: Objective | None,
) -> list[list[int]]:
    """Places of the models that can be one stack, or that are to be trained alone."""
    groups: dict[Any, list[int]] = {}
    for place, (model, batches, one) in enumerate(zip(models, data, settings, strict=True)):
        key: Any = place
        chain = chain_of(model)
        if why_alone(model, batches, one, objective) is None and isinstance(chain, list):
            sizes = [(name, str(layer)) for name, layer in chain]
            kinds = [(p.dtype, p.device) for p in model.parameters()]
            lengths = (len(batches.targets), batches.batch_size, tuple(batches.inputs.shape[1:]))
            key = str((sizes, kinds, lengths, [getattr(one, name) for name in SAME]))
        groups.setdefault(key, []).append(place)
    return list(groups.values())


class _Ensemble:
    """One stack in training."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        data: Sequence[TensorBatches],
        settings: Sequence[TrainingSettings],
        objective: Objective | None,
    ) -> None:
        for one in settings:
            check_training(one, None)
        self.given, self.data, self.settings = models, data, settings
        self.copies = [train_mode(clone(model)) for model in models]
        self.masks = [lift_masks(copied) for copied in self.copies]
        device = own_device()
        self.stack = Stack([copied.to(device) for copied in self.copies])
        self.loss = _Loss(objective)
        if objective is None:
            outputs = [layer.out_features for _, layer in self.stack.chain if isinstance(layer, nn.Linear)]
            for batches in data:
                check_range(*span(batches.targets), outputs[-1])
        self.optimizer = self._optimizer()
        self.kept: Tensor | None = None
        if any(self.masks):
            self.kept = torch.ones_like(self.stack.values)
            for row, masks in enumerate(self.masks):
                self.stack.load(row, masks, into=self.kept)

    def _rows(self) -> list[int]:
        """The network of each row of the stack, which is at least two."""
        return list(range(len(self.copies))) if len(self.copies) > 1 else [0, 0]

    def _optimizer(self) -> torch.optim.Optimizer:
        """One for all; a group of parameters for each where their rates differ."""
        values, slopes = self.stack.values, self.stack.slopes
        values.grad = slopes
        own = [self.settings[row] for row in self._rows()]
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
        first = self.settings[0]
        histories: list[list[dict[str, float]]] = [[] for _ in self.copies]
        for epoch in range(first.start_epoch, first.epochs):
            losses = self._epoch(epoch)
            rates = [group["lr"] for group in self.optimizer.param_groups]
            for place, history in enumerate(histories):
                loss = float(losses[place])
                if not loss - loss == 0:
                    raise InputError(
                        f"training of network {place} diverged: the loss is {loss} in epoch {epoch + 1}; "
                        f"{why_not_finite(self.given[place], self.data[place])}"
                    )
                rate = rates[place] if len(rates) > 1 else rates[0]
                history.append({"epoch": epoch + 1, "training_loss_nats": loss, "learning_rate": rate})
            if progress is not None:
                progress(epoch + 1, first.epochs)
        return [self._fitted(place, history) for place, history in enumerate(histories)]

    def _fitted(self, place: int, history: list[dict[str, float]]) -> FitResult:
        model = self.copies[place]
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
            if self.kept is not None:
                with torch.no_grad():
                    stack.values.mul_(self.kept)
            losses += loss
        return losses / steps

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(S, B, inputs) and (S, B, ...) targets of each step."""
        device, dtype = self.stack.values.device, self.stack.values.dtype
        own = [replace(self.data[row]) for row in self._rows()]
        for batches in own:
            batches.set_epoch(epoch)
        shared = all(b.inputs is own[0].inputs and b.targets is own[0].targets for b in self.data)
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


class _Loss:
    """Losses (S,) of (S, B, outputs), and the gradient of their sum."""

    def __init__(self, objective: Objective | None) -> None:
        self.objective = objective

    def __call__(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        leaf = output.requires_grad_()
        if self.objective is None:
            losses = F.cross_entropy(leaf.flatten(0, 1), targets.flatten(), reduction="none")
            each = losses.view(targets.shape).mean(1)
        else:
            each = torch.func.vmap(self._own)(leaf, targets)
        (slope,) = torch.autograd.grad(each.sum(), leaf)
        output.requires_grad_(False)
        return each.detach(), slope

    def _own(self, output: Tensor, targets: Tensor) -> Tensor:
        assert self.objective is not None
        found: Any = self.objective
        return found(lambda _: output, None, targets)  # type: ignore[no-any-return]
