"""Trials of the description length experiment: a network's files, and the bits in which they tell labels."""

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from analysis.compression_frontier.trials import CodingTrials
from analysis.description_length.config import coding
from analysis.lab.data.splits import Split
from analysis.lab.runner import Runner
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.progress import OnProgress
from capacity import bounds
from capacity.certificates import certificate
from capacity.descriptions import DescriptionLength, two_part_length
from capacity.errors import InputError
from compression.checkpoints import load_json, save_json
from compression.codec import decode
from compression.describing import blocks, prequential_length
from compression.evaluation import outputs

if TYPE_CHECKING:
    from analysis.description_length.config import Config


class DescriptionTrials:
    """What all trials share: how networks become files, and the proven bounds of the network."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.coding = CodingTrials(coding(config))
        self.runner = self.coding.runner
        rows = len(self.runner.data.train)
        if rows <= config.first_block:
            raise InputError(
                f"first_block must be below the {rows} training samples, found {config.first_block}"
            )
        self.prequential_networks = len(list(blocks(rows, config.first_block)))
        self.prepare = self.runner.prepare
        proven = bounds(self.runner.example, self.runner.data.input_size, convention=config.convention)
        self.facts = {
            "convention_bits": proven.capacity_bits, "storage_bits": proven.storage_bits,
            "proven_bits": proven.bits, "parameters": proven.parameters,
        }  # fmt: skip

    def steps(self) -> int:
        """Records that one seed's trial keeps."""
        return len(self.config.labels) * (self.coding.steps() + 1)  # and the bits told block by block

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""
        prequential = self.prequential_networks * self.config.epochs
        return len(self.config.labels) * (self.coding.epochs() + prequential)

    def trial(self, seed: int, folder: RunDirectory, on_progress: OnProgress) -> Iterator[dict[str, Any]]:
        """A row for each file and one for the prequential code, of the labels as they are and shuffled."""
        for kind in self.config.labels:
            shelf = RunDirectory(folder.path / f"seed-{seed}" / kind)  # in what a fresh start removes
            runner = self.runner.on(labelled(self.runner.data.train, kind, seed))
            coding = copy(self.coding)
            coding.runner = runner
            facts = {"seed": seed, "labels": kind} | self.facts
            files = [row for row in coding.trial(seed, shelf, on_progress) if row["method"] == "rate"]
            for row in files:
                yield facts | row | self._file_row(runner, row, shelf.path / f"seed-{seed}")
            yield facts | self._prequential(runner, shelf.path / f"seed-{seed}", seed, on_progress)

    def _file_row(self, runner: Runner, row: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Bits that the training labels take with one of a seed's files, and the error that it guarantees."""
        files = len(self.config.densities)
        path = folder / f"{row['method']}-{row['density']:g}.dcz"
        network = decode(path, runner.network(0))
        logits, labels = outputs(network, runner.data.train.batches(1000))
        length = two_part_length(logits, labels, file_bytes=path.stat().st_size, choices=files)
        errors = int((logits.argmax(1) != labels).sum())
        bound = certificate(errors, len(labels), path.stat().st_size, choices=files * self.config.seeds)
        measured = {"training_error": errors / len(labels), "top1_error_bound": bound.error_bound}
        return facts_of(length) | {"code": "file"} | measured

    def _prequential(
        self, runner: Runner, folder: Path, seed: int, on_progress: OnProgress
    ) -> dict[str, Any]:
        path = folder / "prequential.json"
        if path.exists():
            on_progress(self.prequential_networks * self.config.epochs)
            return load_json(path)
        on_progress(doing=f"seed {seed}: block by block")
        train = runner.data.train
        settings = runner.training(seed, self.config.epochs)
        length = prequential_length(
            lambda rows: runner.on(train.take(rows)).fit(runner.network(seed), settings, on_progress).model,
            lambda rows: train.take(rows).batches(1000),
            train.labels,
            classes=len(runner.data.classes),
            first=self.config.first_block,
            seed=seed,
        )
        row = {"method": "prequential", "density": 1.0} | facts_of(length) | {"code": length.code}
        save_json(path, row)
        return row


def labelled(train: Split, kind: str, seed: int) -> Split:
    """The training samples with their labels, or with these shuffled among them."""
    if kind == "true":
        return train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return replace(train, labels=train.labels[order.to(train.labels.device)])


def facts_of(length: DescriptionLength) -> dict[str, Any]:
    """What is stored of a description length."""
    return {
        "samples": length.samples, "label_bits": length.label_bits, "file_bits": length.file_bits,
        "residual_bits": length.residual_bits, "description_bits": length.bits,
        "learned_share": length.learned_share,
    }  # fmt: skip
