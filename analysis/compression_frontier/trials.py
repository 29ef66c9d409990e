"""Trials of a compression experiment: a network per seed, pruned to each density, coded, and read back."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from analysis.lab.criteria import criterion_of
from analysis.lab.runner import Runner
from analysis.lab.runs.cache import cached_model, is_cached
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.progress import OnProgress
from capacity.cloning import clone
from capacity.errors import InputError
from compression.codec import coding_report, decode, encode
from compression.distillation import DistillationLoss, objective
from compression.evaluation import evaluate
from compression.rates import quantize_rate_distortion
from compression.schedules import GradualPruning
from compression.sharing import share_weights
from compression.shrinking import shrink, sort_units, zero_dead_parameters
from compression.training import TrainingSettings
from compression.verification import outputs, probes, relative_difference, tolerance

if TYPE_CHECKING:
    from analysis.compression_frontier.config import Config

CALIBRATION = 512  # samples by which a criterion that sees data judges weights
DRAWN_TOGETHER = 16  # of these, for one estimate
SETTLED = 0.9  # share of the training with few values after which each weight has its own


def living_part(model: nn.Module, input_size: Any) -> nn.Module:
    """The units that say anything as a network of their own, which trains as they do among the silent ones.

    The network itself where none is silent, or where units cannot be put back as each layer's first.
    """
    try:
        small = shrink(model, input_size).model
    except InputError:  # no unit is silent
        return model
    if small.state_dict().keys() != model.state_dict().keys():
        return model
    inputs = probes(model, input_size)
    difference = relative_difference(outputs(model, inputs), outputs(placed_in(model, small), inputs))
    return small if difference <= tolerance(model) else model


@torch.no_grad()
def placed_in(model: nn.Module, small: nn.Module) -> nn.Module:
    """A copy of a network with a smaller one's parameters in its first units, and zeros in all others."""
    copied = clone(model)
    for parameter in copied.parameters():
        parameter.zero_()
    places = copied.state_dict()
    for name, tensor in small.state_dict().items():
        places[name][tuple(slice(0, length) for length in tensor.shape)].copy_(tensor)
    return copied


class CodingTrials:
    """What all trials share: the runner, and how to train, prune and code."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.runner = Runner(config, validation=config.validation)
        self.prepare = self.runner.prepare
        self.loss = DistillationLoss(config.temperature, config.alpha)

    def steps(self) -> int:
        """Networks that one seed's trial keeps."""
        return 1 + len(self.config.densities) * (1 + len(self.config.methods))

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""
        config = self.config
        cell = config.prune_epochs + len(config.methods) * config.code_epochs
        return config.epochs + len(config.densities) * cell

    def trial(self, seed: int, folder: RunDirectory, on_progress: OnProgress) -> Iterator[dict[str, Any]]:
        """A row for the dense network, and for each density one pruned only and one for each method."""
        config, seed_dir = self.config, folder.path / f"seed-{seed}"
        on_progress(doing=f"seed {seed}: dense")
        fresh = self.runner.network(seed)
        on_progress(config.epochs if is_cached(seed_dir / "dense") else 0)
        settings = self._settings(seed, config.epochs, config.learning_rate, config.weight_decay)
        train = partial(self._fit, fresh, settings, on_progress)
        dense, row = cached_model(
            seed_dir / "dense", fresh, train, partial(self._measured, seed_dir / "dense.dcz")
        )
        yield {"seed": seed, "method": "dense", "density": 1.0} | row
        for density in config.densities:
            on_progress(doing=f"seed {seed}: pruned to {100 * density:g} %")
            path = seed_dir / f"pruned-{density:g}"
            on_progress(config.prune_epochs if is_cached(path) else 0)
            prune = partial(self._pruned, dense, density, seed, on_progress)
            measured = partial(self._measured, path.with_name(path.name + ".dcz"))
            pruned, row = cached_model(path, dense, prune, measured)
            yield {"seed": seed, "method": "pruned", "density": density} | row
            for method in config.methods:
                on_progress(doing=f"seed {seed}: {method} at {100 * density:g} %")
                path = seed_dir / f"{method}-{density:g}"
                on_progress(config.code_epochs if is_cached(path) else 0)
                code = partial(self._coded, pruned, dense, method, seed, on_progress)
                measured = partial(self._measured, path.with_name(path.name + ".dcz"))
                _, row = cached_model(path, fresh, code, measured)
                yield {"seed": seed, "method": method, "density": density} | row

    def _settings(self, seed: int, epochs: int, rate: float, decay: float) -> TrainingSettings:
        return replace(self.runner.training(seed, epochs), learning_rate=rate, weight_decay=decay)

    def _fit(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        on_progress: OnProgress,
        teacher: nn.Module | None = None,
    ) -> nn.Module:
        precision = self.config.mixed_precision
        loss = None if teacher is None else objective(teacher, self.loss, mixed_precision=precision)
        return self.runner.fit(model, settings, on_progress, loss).model

    def _pruned(self, dense: nn.Module, density: float, seed: int, on_progress: OnProgress) -> nn.Module:
        """The dense network, pruned while it is trained on under the teacher that it was; dead ends go."""
        config = self.config
        calibration = list(self.runner.data.train.evenly(CALIBRATION).batches(DRAWN_TOGETHER))
        schedule = GradualPruning(
            criterion_of(config.criterion, "zero", seed, calibration), 1 - density,
            end_epoch=config.prune_until * config.prune_epochs, updates=8 * config.prune_epochs,
            layers=self.runner.weighted, input_size=self.runner.data.input_size,
        )  # fmt: skip
        settings = self._settings(seed, config.prune_epochs, config.learning_rate, config.weight_decay)
        settings = replace(settings, gradual=schedule)
        return self._fit(dense, settings, on_progress, dense)

    def _coded(
        self, pruned: nn.Module, dense: nn.Module, method: str, seed: int, on_progress: OnProgress
    ) -> nn.Module:
        """The pruned network on few values, trained with them under the teacher."""
        config, size = self.config, self.runner.data.input_size
        settings = self._settings(seed, config.code_epochs, config.code_learning_rate, 0.0)
        living = zero_dead_parameters(pruned, size)
        small = living_part(living, size)
        retrain = partial(self._fit, settings=settings, on_progress=on_progress, teacher=dense)
        if method == "rate":
            batches = len(self.runner.data.train.batches(config.batch_size))
            quantized = quantize_rate_distortion(
                small, penalty=config.penalty, relative_step=config.relative_step, retrain=retrain,
                settle=max(1, round(SETTLED * config.code_epochs * batches)),
            ).model  # fmt: skip
        else:
            quantized = share_weights(small, bits=config.bits, retrain=retrain).model
        placed = placed_in(living, quantized)
        return zero_dead_parameters(placed, size) if method == "rate" else placed

    def _measured(self, path: Path, model: nn.Module) -> dict[str, Any]:
        """Write the file, hidden units in order, read it into a fresh network, and score what was read."""
        file_bytes = encode(sort_units(model, self.runner.data.input_size).model, path)
        decoded = decode(path, clone(self.runner.network(0))).to(self.runner.device).eval()
        row = self.runner.score(decoded)
        correct, total = row["correct"], row["total"]
        for split in (self.runner.data.train, self.runner.data.validation):
            scored = evaluate(decoded, split.batches(1000))
            correct, total = correct + scored.correct, total + scored.total
        report = coding_report(decoded)
        vectors = [t for t in report.tensors if decoded.state_dict()[t.name].dim() < 2]
        return row | {
            "file_bytes": file_bytes,
            "dense_bytes": report.dense_bytes,
            "compression_ratio": report.dense_bytes / file_bytes,
            "entropy_bytes": sum(t.entropy_bytes + t.book_bytes for t in report.tensors),
            "book_bytes": sum(t.book_bytes for t in report.tensors),
            "bias_bytes": sum(t.position_bytes + t.value_bytes + t.raw_bytes for t in vectors),
            "nonzero_parameters": sum(t.nonzero for t in report.tensors),
            "correct_of_all": correct,
            "all_points": total,
            "points_of_all_per_bit": correct / max(row["capacity_bits"], 1),
        }
