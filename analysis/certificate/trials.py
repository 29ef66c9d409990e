"""Trials: a file for each candidate, what it guarantees, and the best of them read back and scored."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from analysis.certificate.config import candidates, choices_of
from analysis.certificate.networks import FixedFeatures, IntegerNetwork, build
from analysis.certificate.rounding import Schedule, train_integers
from analysis.lab.data.datasets import load
from analysis.lab.data.splits import DataSet, Split
from capacity.certificates import Certificate, certificate
from capacity.errors import InputError
from compression.batches import TensorBatches
from compression.certifying import certify
from compression.checkpoints import load_json
from compression.codec import decode, encode
from compression.evaluation import evaluate

if TYPE_CHECKING:
    from analysis.certificate.config import Config
    from analysis.lab.runs.directory import RunDirectory

BATCH = 1_000  # samples that are scored at once
Row = dict[str, Any]


class Search:
    """What all candidates share: the training samples, held-out ones included, and their fixed features.

    directory: gives the run folder, once it is there
    """

    def __init__(self, config: "Config", directory: "Callable[[], RunDirectory]") -> None:
        self.config, self.directory = config, directory
        self.data = _loaded(config)
        self.choices = choices_of(config)
        self.build = partial(build, shape=self.data.shape, classes=len(self.data.classes))
        channels, cells = FixedFeatures(self.data.shape).shape
        self.outputs = 4 * channels * cells**2  # numbers kept of a sample, about
        self.parameters = {name: self._integers(self.build(name)).weights.numel() for name in config.networks}

    @cached_property
    def training(self) -> Split:
        """All samples that training or any choice sees."""
        parts = (self.data.train, self.data.validation)
        inputs = torch.cat([torch.as_tensor(part.inputs) for part in parts])
        return Split(inputs, torch.cat([part.labels for part in parts]))

    @cached_property
    def features(self) -> Tensor:
        """The fixed features of these samples, which no candidate changes."""
        fixed = FixedFeatures(self.data.shape)
        with torch.no_grad():
            return torch.cat([fixed(pictures) for pictures, _ in batches(self.training)])

    def steps(self) -> dict[str, Callable[[], list[Row]]]:
        """What computes the row of each candidate, and at last that of the best."""
        steps: dict[str, Callable[[], list[Row]]] = {
            name: partial(self._candidate, name, *parts) for name, parts in candidates(self.config).items()
        }
        return steps | {"chosen": self._chosen}

    def _candidate(self, name: str, network: str, fineness: float, seed: int) -> list[Row]:
        """Train a candidate, write its file, and bound its error by what the file holds."""
        config = self.config
        model = self.build(network)
        schedule = Schedule(config.epochs, config.batch_size, config.learning_rate, fineness, seed)
        train_integers(self._integers(model), self.features, self.training.labels, schedule)
        size = encode(model, path := _file(self.directory(), name))
        decoded = self._integers(decode(path, self.build(network)))
        rows = TensorBatches(self.features, self.training.labels, BATCH)
        scored = evaluate(decoded, rows)
        bound = certificate(
            scored.total - scored.correct, scored.total, size, choices=self.choices,
            confidence=config.confidence,
        )  # fmt: skip
        facts = {"kind": "candidate", "name": name, "network": network, "fineness": fineness, "seed": seed}
        parameters = self.parameters[network]
        return [facts | {"parameters": parameters, "bits_per_weight": 8 * size / parameters} | _row(bound)]

    def _chosen(self) -> list[Row]:
        """The candidate of the least bound: its file is read back again, and scored on the test.

        Nothing else looks at the test split.
        """
        folder = self.directory()
        cells = [folder.path / f"network-{name}.json" for name in candidates(self.config)]
        rows = [load_json(cell)["rows"][0] for cell in cells]
        best = min(rows, key=lambda row: row["top1_error_bound"])
        blank, path = self.build(best["network"]), _file(folder, best["name"])
        bound = certify(
            path, blank, batches(self.training), choices=self.choices, confidence=self.config.confidence
        )
        scored = evaluate(decode(path, blank), batches(self.data.test))
        facts = {"correct": scored.correct, "total": scored.total, "top1_error": scored.top1_error}
        return [best | {"kind": "chosen"} | _row(bound) | facts]

    @staticmethod
    def _integers(model: nn.Module) -> IntegerNetwork:
        part = model.get_submodule("1")
        assert isinstance(part, IntegerNetwork)
        return part


def batches(split: Split) -> TensorBatches:
    """Batches of pictures from 0 to 1, without mean and deviation, which the file would have to hold."""
    return TensorBatches(split.inputs, split.labels, BATCH)


def _row(bound: Certificate) -> Row:
    return {
        "file_bytes": bound.file_bytes, "code_bits": bound.code_bits, "choices": bound.choices,
        "training_errors": bound.errors, "training_samples": bound.total,
        "training_error": bound.training_error, "top1_error_bound": bound.error_bound,
        "kl_error_bound": bound.kl_error_bound,
    }  # fmt: skip


def _file(folder: "RunDirectory", name: str) -> Path:
    return folder.path / f"network-{name}.dcz"


def _loaded(config: "Config") -> DataSet:
    """The data asked for, evenly thinned to --limit samples a split; raises InputError for no pictures."""
    data = load(config.dataset, data=config.data, image_size=config.image_size)
    if torch.as_tensor(data.train.inputs).dtype != torch.uint8:
        raise InputError(f"certificate searches networks for pictures; {data.name} holds none")
    limit = config.limit
    return data if limit is None else data.map(lambda split: split.evenly(limit))
