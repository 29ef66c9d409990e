"""Every public function takes an argument of any kind, or refuses it by an InputError: nothing raw."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import capacity
import compression
import compression as c
from capacity import InputError
from compression import L1, L2, Budget, DistillationLoss, TensorBatches, TrainingSettings

X, Y = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
BATCHES = TensorBatches(X, Y, 10)
ODD = (None, math.nan, "x", object(), [], lambda: None, nn.Linear)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def same(model: nn.Module) -> nn.Module:
    return model


def score(model: nn.Module) -> dict[str, float]:
    return {"error": 0.5}


def squeezed(**given: Any) -> list[Any]:
    return list(compression.squeeze(**given))


def files(folder: Any) -> dict[str, Any]:
    """Arguments that are files, or made of them."""
    compression.encode(compression.share_weights(net(), bits=3).model, folder / "x.dcz")
    compression.save_model(net(), folder / "m")
    compression.save_shrunk(compression.shrink(net(), (6,), amount=0.25).model, folder / "s")
    return {"coded": folder / "x.dcz", "saved": folder / "m", "shrunk": folder / "s", "new": folder / "n"}


SIZE = {"input_size": (6,)}
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "measure": (capacity.measure, {"model": net(), **SIZE, "scope": "all", "effective": True}),
    "bounds": (capacity.bounds, {"model": net(), **SIZE, "convention": "previous"}),
    "certificate": (
        capacity.certificate, {"errors": 3, "total": 100, "file_bytes": 9, "choices": 2, "confidence": 0.9}),
    "cover_fraction": (capacity.cover_fraction, {"points": 4, "weights": 3}),
    "dense_capacity": (capacity.dense_capacity, {"inputs": 4, "units": [3], "convention": "running"}),
    "generalization": (capacity.generalization, {
        "report": capacity.measure(net(), (6,)), "correct": 3, "total": 4, "label_bits": 1.5, "classes": 3}),
    "label_entropy": (capacity.label_entropy, {"labels": Y}),
    "mean_half_width": (capacity.mean_half_width, {"values": [1.0, 2.0], "confidence": 0.9}),
    "memorizable_rows": (capacity.memorizable_rows, {"capacity_bits": 40, "classes": 3}),
    "pilot": (capacity.pilot, {"labels": Y[:24], "features": X[:24].numpy(), "seed": 0}),
    "recommend": (capacity.recommend, {
        "report": capacity.measure(net(), (6,)), "need": capacity.requirement(X, Y), "pilot": None}),
    "requirement": (capacity.requirement, {
        "features": X, "labels": Y, "tolerance": None, "repeats": 1, "seed": 0, "formula": "book"}),
    "separable": (capacity.separable, {"inputs": X[:4].numpy(), "signs": np.array([1, -1, 1, 1])}),
    "two_part_length": (capacity.two_part_length, {
        "logits": X[:, :3], "labels": Y, "file_bytes": 30, "choices": 2}),
    "wilson_interval": (capacity.wilson_interval, {"correct": 3, "total": 10, "confidence": 0.9}),
    "allocate_bits": (compression.allocate_bits, {
        "model": net(), "batches": BATCHES, "average_bits": 9.0, "choices": (2, 4), "group_size": None,
        "asymmetric": False}),
    "certify": (compression.certify, {
        "path": "coded", "model": net(), "training": BATCHES, "choices": 1, "confidence": 0.9}),
    "code_to_budget": (compression.code_to_budget, {
        "model": net(), "batches": BATCHES, "budget_bytes": 200.0, "layers": None, "seed": 0}),
    "code_with_feedback": (compression.code_with_feedback, {
        "model": net(), "batches": BATCHES, "penalty": 1e-4, "relative_step": 2.0, "layers": None,
        "seed": 0}),
    "coding_report": (compression.coding_report, {"model": net()}),
    "decode": (compression.decode, {"path": "coded", "model": net()}),
    "description_length": (compression.description_length, {
        "path": "coded", "model": net(), "training": BATCHES, "choices": 2}),
    "distill": (compression.distill, {
        "student": net(), "teacher": net(), "data": BATCHES, "loss": DistillationLoss(),
        "settings": TrainingSettings(epochs=1), "features": None}),
    "encode": (compression.encode, {"model": net(), "path": "new"}),
    "evaluate": (compression.evaluate, {
        "model": net(), "data": BATCHES, "gather": False, "class_axis": None, "objective": None}),
    "factorize": (compression.factorize, {"model": net(), "rank": 2, "method": "svd"}),
    "fit": (compression.fit, {
        "model": net(), "data": BATCHES, "settings": TrainingSettings(epochs=1), "validation": BATCHES,
        "objective": None}),
    "fit_together": (compression.fit_together, {
        "models": [net()], "data": [BATCHES], "settings": TrainingSettings(epochs=1)}),
    "flops": (compression.flops, {"model": net(), **SIZE}),
    "latency": (compression.latency, {"model": net(), **SIZE, "batch_size": 2, "repeats": 2}),
    "load_model": (compression.load_model, {"model": net(), "path": "saved", "sealed": False}),
    "load_shrunk": (compression.load_shrunk, {"model": net(), "path": "shrunk", **SIZE}),
    "mcnemar": (compression.mcnemar, {"before": Y > 1, "after": Y > 0}),
    "peak_memory_bytes": (compression.peak_memory_bytes, {"model": net(), **SIZE, "batch_size": 2}),
    "prune": (compression.prune, {
        "model": net(), "criterion": L1(), "amount": 0.5, "unit": "neuron", "scope": "layer"}),
    "prune_to_budget": (compression.prune_to_budget, {
        "model": net(), "criterion": L1(), **SIZE, "budget": Budget("parameters", 120)}),
    "prune_with_feedback": (compression.prune_with_feedback, {
        "model": net(), "batches": BATCHES, "amount": 0.5, "n_of_m": None}),
    "quantize": (compression.quantize, {
        "model": net(), "scheme": "static", **SIZE, "calibration": BATCHES, "retrain": None}),
    "quantize_rate_distortion": (compression.quantize_rate_distortion, {
        "model": net(), "penalty": 0.02, "relative_step": 0.7, "retrain": same}),
    "recipe": (compression.recipe, {
        "model": net(), "techniques": [], **SIZE, "evaluate": score, "directory": None}),
    "rewind": (compression.rewind, {
        "pruned": compression.prune(net(), L1(), amount=0.5).model, "early": net()}),
    "round_with_feedback": (compression.round_with_feedback, {
        "model": net(), "batches": BATCHES, "bits": 4, "group_size": None, "layers": None}),
    "save_model": (compression.save_model, {"model": net(), "path": "new"}),
    "save_shrunk": (compression.save_shrunk, {"model": net(), "path": "new"}),
    "scale_channels": (compression.scale_channels, {
        "model": net(), "batches": BATCHES, "bits": 4, "layers": None, "group_size": None,
        "asymmetric": True}),
    "share_weights": (compression.share_weights, {
        "model": net(), "bits": 3, "budget_bytes": None, "init": "linear", "retrain": same}),
    "shrink": (compression.shrink, {"model": net(), **SIZE, "amount": 0.25, "criterion": L2()}),
    "squeeze": (squeezed, {
        "model": net(), "criterion": L1(), "amount": 0.2, "iterations": 1, "evaluate": score,
        "retrain": same, "unit": "weight", "scope": "layer"}),
    "Calibration": (compression.Calibration, {"batches": BATCHES, "sequential": False, "damping": 0.01}),
    "TensorBatches": (TensorBatches, {"inputs": X, "targets": Y, "batch_size": 10}),
    "DistillationLoss": (DistillationLoss, {"temperature": 2.0, "alpha": 0.5}),
}  # fmt: skip
FILES = ("path",)


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_of_any_kind_is_taken_or_refused(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    function, arguments = CALLS[name]
    places = files(tmp_path) if "path" in arguments else {}
    given = {key: places[value] if key in FILES else value for key, value in arguments.items()}
    if name != "pilot":  # of which even a right call takes seconds
        function(**given)
    for argument in given:
        for odd in ODD:
            if argument in FILES and odd == "x":
                continue  # a path that may or may not be there: Python's own errors
            try:
                function(**given | {argument: odd})
            except InputError as error:
                assert str(error)


ONCE = TrainingSettings(epochs=1)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a loss of torch's": (
        lambda: c.fit(net(), BATCHES, settings=ONCE, objective=nn.CrossEntropyLoss()),
        "found a CrossEntropyLoss: write objective=lambda model, x, y: loss",
    ),
    "an array as objective": (lambda: c.evaluate(net(), BATCHES, objective=np.array([])), "objective"),
    "progress of no arguments": (
        lambda: c.fit(net(), BATCHES, settings=ONCE, progress=lambda: None), "progress must be True"),
    "a tracker of no arguments": (
        lambda: c.fit(net(), BATCHES, settings=ONCE, tracker=lambda: None), "a tracker is a function"),
    "Taylor without batches": (
        lambda: c.prune(net(), c.Taylor(None), amount=0.5), "batches must yield"),
    "Fisher without batches": (
        lambda: c.prune(net(), c.Fisher(None), amount=0.5), "batches must yield"),
    "ActivationNorm without batches": (
        lambda: c.prune(net(), c.ActivationNorm(None), amount=0.5), "batches must yield"),
    "BatchNormScale without batches": (
        lambda: c.prune(net(), c.BatchNormScale(None), amount=0.5), "batches must yield"),
    "inputs that are None": (lambda: c.evaluate(net(), [(None, Y)]), "inputs must be tensors"),
    "a number as layers": (
        lambda: c.prune(net(), L1(), amount=0.5, layers=torch.tensor(0.3)), "layers must be a list"),
    "a scope that is an array": (lambda: capacity.measure(net(), (6,), scope=np.array([])), "scope"),
    "a convention that is an array": (
        lambda: capacity.bounds(net(), (6,), convention=np.array([])), "unknown convention"),
    "a seed beyond 64 bits": (
        lambda: c.code_with_feedback(net(), BATCHES, penalty=1e-4, seed=10**30), "seed must be below"),
    "a penalty beyond sense": (
        lambda: c.code_with_feedback(net(), BATCHES, penalty=10**30), "penalty must be positive"),
    "a learning rate that is none": (
        lambda: c.fit(net(), BATCHES, settings=TrainingSettings(learning_rate=None)), "learning_rate must"),
    "a momentum held as a tensor": (
        lambda: c.fit(net(), BATCHES, settings=TrainingSettings(momentum=X[0, 0])), "momentum must"),
    "a dropout that is a number": (
        lambda: c.fit(net(), BATCHES, settings=TrainingSettings(neuron_dropout=3)), "neuron_dropout must be"),
    "a final sparsity that is none": (
        lambda: c.fit(net(), BATCHES, settings=TrainingSettings(gradual=c.GradualPruning(L1(), None, 1))),
        "final_sparsity must be a number"),
    "a schedule without a criterion": (
        lambda: c.fit(net(), BATCHES, settings=TrainingSettings(gradual=c.GradualPruning(None, 0.5, 1))),
        "criterion"),
    "samples that are none": (
        lambda: c.prune(net(), c.Fisher(BATCHES, samples=None), amount=0.5), "samples must be"),
    "a seed below zero": (lambda: c.prune(net(), c.Random(-1), amount=0.5), "seed must be at least 0"),
    "bits that are none": (lambda: c.EnergyPerBit(None), "value_bits must be a number"),
    "a cache that is a number": (
        lambda: c.distill(net(), net(), BATCHES, cache=-1, settings=ONCE), "cache must be a path"),
    "a name of half a character": (lambda: c.save_model(net(), "\ud800"), "no name that a file can have"),
    "counts beyond 64 bits": (lambda: capacity.wilson_interval(3, 10**30), "total must be below"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_passes_for_an_argument_and_is_none_is_refused(name: str) -> None:
    work, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        work()


def test_sparse_labels_are_labels() -> None:
    assert capacity.label_entropy(torch.tensor([0, 1, 1, 0]).to_sparse()) == 1
