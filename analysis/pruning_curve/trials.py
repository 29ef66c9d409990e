"""Trials of a pruning experiment: a network per seed, pruned by each criterion to each amount, and scored."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from analysis.lab.criteria import criterion_of
from analysis.lab.measurement.deployment import file_bytes
from analysis.lab.runner import Runner
from analysis.lab.runs.cache import cached_model, is_cached
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.progress import OnProgress
from capacity import InputError
from capacity.cloning import clone, fold_masks
from compression.checkpoints import load_model, save_model
from compression.costs import latencies
from compression.distillation import DistillationLoss, objective
from compression.masks import density, masks_of
from compression.pruning import prune
from compression.schedules import GradualPruning, rewind
from compression.shrinking import shrink
from compression.shrinking.silencing import mask_dead_norm_channels
from compression.targets import prunable
from compression.training import Objective, TrainingSettings

if TYPE_CHECKING:
    from analysis.pruning_curve.config import Config


class PruningTrials:
    """What all trials share: the runner, and the schedule of pruning and training."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.runner = Runner(config, layers=config.layers, validation=config.validation)
        self.prepare = self.runner.prepare
        every = config.unit == "weight" and not config.layers
        self.layers = self.runner.weighted if every else self.runner.layers
        prunable(self.runner.example, self.layers)
        for amount in config.amounts:  # an impossible amount is refused before the first training
            self._cut(self.runner.example, "random", amount, 0)

    def steps(self) -> int:
        """Networks that one seed's trial keeps."""
        return len(self._references()) + len(self._ways()) * len(self.config.amounts)

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""
        cells = len(self._ways()) * len(self.config.amounts) * self._cell_epochs()
        return cells + sum(self._settings(0, name).epochs for name in self._references())

    def _ways(self) -> list[tuple[str, bool]]:
        """Criteria, each with plain retraining and, where asked for, under the dense teacher."""
        taught = (False, True) if self.config.teacher else (False,)
        return [(name, under) for name in self.config.criterion for under in taught]

    def _cell_epochs(self) -> int:
        config = self.config
        if config.schedule == "gradual":
            return config.epochs
        return config.epochs - config.snapshot_epoch if config.schedule == "rewind" else config.retrain_epochs

    def _references(self) -> tuple[str, ...]:
        config = self.config
        return ("dense", "control") if config.retrain_epochs and config.schedule == "one-shot" else ("dense",)

    def _settings(self, seed: int, what: str) -> TrainingSettings:
        """How to train the dense network, the control, or a pruned network."""
        config = self.config
        full = what == "dense" or config.schedule in ("gradual", "rewind")
        epochs = config.epochs if full else config.retrain_epochs
        snapshot = config.snapshot_epoch if what == "dense" and config.schedule == "rewind" else None
        start = config.snapshot_epoch if what != "dense" and config.schedule == "rewind" else 0
        return replace(self.runner.training(seed, epochs), start_epoch=start, snapshot_epoch=snapshot)

    def trial(self, seed: int, folder: RunDirectory, on_progress: OnProgress) -> Iterator[dict[str, Any]]:
        """A row for the dense network, the control, and each criterion and amount."""
        config, seed_dir = self.config, folder.path / f"seed-{seed}"
        on_progress(doing=f"seed {seed}: dense")
        base, row = self._reference(seed, seed_dir, on_progress)
        yield row
        if "control" in self._references():
            on_progress(doing=f"seed {seed}: control")
            settings = self._settings(seed, "control")
            train = partial(self._fit, base, settings, on_progress)
            _, row = self._cached(seed_dir / "control", base, settings.epochs, on_progress, train)
            yield {"seed": seed, "criterion": "control", "amount": 0.0} | row
        early = seed_dir / "snapshot.safetensors"
        for name, taught in self._ways():
            current, way = base, name + " + teacher" * taught
            loss = self._objective(base) if taught else None
            for amount in config.amounts:
                on_progress(doing=f"seed {seed}: {way}, {amount:.4g}")
                fit = partial(self._fit, on_progress=on_progress, loss=loss)
                compute = partial(self._pruned, current, early, name, amount, seed, fit)
                path = seed_dir / way.replace(" ", "") / f"{amount:.6f}"
                cut, row = self._cached(path, base, self._cell_epochs(), on_progress, compute)
                yield {"seed": seed, "criterion": way, "amount": amount} | row
                if config.schedule in ("iterative", "rewind"):
                    current = cut

    def _objective(self, teacher: nn.Module) -> Objective:
        config = self.config
        loss = DistillationLoss(config.temperature, config.alpha)
        return objective(teacher, loss, mixed_precision=config.mixed_precision)

    def _fit(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        on_progress: OnProgress,
        loss: Objective | None = None,
    ) -> nn.Module:
        return self.runner.fit(model, settings, on_progress, loss).model

    def _reference(
        self, seed: int, seed_dir: Path, on_progress: OnProgress
    ) -> tuple[nn.Module, dict[str, Any]]:
        """The dense network of this seed and its row; keeps the snapshot to rewind to beside it."""
        fresh, settings = self.runner.network(seed), self._settings(seed, "dense")

        def compute() -> nn.Module:
            fitted = self.runner.fit(fresh, settings, on_progress)
            if fitted.snapshot is not None:
                save_model(fitted.snapshot, seed_dir / "snapshot.safetensors")
            return fitted.model

        base, row = self._cached(seed_dir / "dense", fresh, settings.epochs, on_progress, compute)
        return base, {"seed": seed, "criterion": "dense", "amount": 0.0} | row

    def _pruned(
        self,
        current: nn.Module,
        early: Path,
        name: str,
        amount: float,
        seed: int,
        fit: Callable[[nn.Module, TrainingSettings], nn.Module],
    ) -> nn.Module:
        config, settings = self.config, self._settings(seed, name)
        if config.schedule == "gradual":
            schedule = GradualPruning(
                criterion_of(name, config.center, seed), amount, begin_epoch=min(1.0, 0.1 * config.epochs),
                end_epoch=config.gradual_until * config.epochs, updates=8 * config.epochs,
                scope=config.scope, layers=self.layers,
            )  # fmt: skip
            return fit(self.runner.network(seed), replace(settings, gradual=schedule))
        cut = self._cut(current, name, amount, seed)
        if config.schedule == "rewind":
            cut = rewind(cut, load_model(self.runner.network(seed), early, sealed=True))
            return fit(cut, settings)
        return fit(cut, settings) if config.retrain_epochs else cut

    def _cut(self, current: nn.Module, name: str, amount: float, seed: int) -> nn.Module:
        """Prune until this fraction of all units is gone; what was pruned before counts."""
        config = self.config
        masks = masks_of(current)
        before = 1 - density(masks) if masks else 0.0
        if config.unit == "neuron" and masks:
            rows = [
                mask.flatten(1).any(1)
                for key, mask in masks.items()
                if key.endswith("weight") and mask.dim() > 1
            ]
            before = 1 - sum(int(row.sum()) for row in rows) / sum(row.numel() for row in rows)
        share = (amount - before) / (1 - before)
        if share <= 1e-9:
            raise InputError(
                f"amounts must be ascending: {before:.4f} is pruned already, and {amount} was asked for"
            )
        cut = prune(
            current, criterion_of(name, config.center, seed), amount=share, unit=config.unit,
            scope=config.scope, layers=self.layers,
        ).model  # fmt: skip
        return mask_dead_norm_channels(cut, self.runner.data.input_size) if config.unit == "neuron" else cut

    def _cached(
        self,
        path: Path,
        like: nn.Module,
        epochs: int,
        on_progress: OnProgress,
        compute: Callable[[], nn.Module],
    ) -> tuple[nn.Module, dict[str, Any]]:
        if is_cached(path):
            on_progress(epochs)
        return cached_model(
            path, like, compute, lambda model: self.runner.score(model) | self._deployed(model, like)
        )

    def _deployed(self, model: nn.Module, dense: nn.Module) -> dict[str, Any]:
        """What it takes to run: bytes of the file and latency beside the dense network's, both measured."""
        size = self.runner.data.input_size
        masks = masks_of(model)
        removed = False
        deployed = fold_masks(clone(model))
        if masks and self.config.unit == "neuron":
            with suppress(InputError):  # nothing is silent in all coupled layers: the mask is all there is
                deployed, removed = shrink(model, size).model, True
        times = self.runner.on_all_cores(
            partial(latencies, [deployed, dense], size, batch_size=32, repeats=20)
        )
        parameters = sum(p.numel() for p in model.parameters())
        return {
            "density": density(masks),
            "mask_only": bool(masks) and not removed,
            "file_bytes": file_bytes(deployed),
            "dense_file_bytes": file_bytes(fold_masks(clone(dense))),
            "theoretical_bytes": round(4 * (parameters - sum(int((~mask).sum()) for mask in masks.values()))),
            "latency_ms": times[0].median_ms,
            "dense_latency_ms": times[1].median_ms,
        }
