"""Every public function takes an argument of any kind, or refuses it by an InputError: nothing raw."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
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
from compression.identity import describe, file_sha256
from compression.teacher_ensembles import TeacherEnsemble

X, Y = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
BATCHES = TensorBatches(X, Y, 10)


class Unshown:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


ODD = (
    None, math.nan, "x", object(), [], lambda: None, nn.Linear, Fraction(1, 3), np.zeros((2, 2)), Unshown()
)  # fmt: skip


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
    "prequential_length": (compression.prequential_length, {
        "trained": lambda rows: net(), "batches": lambda rows: [(X[rows], Y[rows])], "labels": Y,
        "classes": 3, "first": 20, "seed": 0}),
    "prune": (compression.prune, {
        "model": net(), "criterion": L1(), "amount": 0.5, "unit": "neuron", "scope": "layer"}),
    "prune_to_budget": (compression.prune_to_budget, {
        "model": net(), "criterion": L1(), **SIZE, "budget": Budget("parameters", 120)}),
    "prune_with_feedback": (compression.prune_with_feedback, {
        "model": net(), "batches": BATCHES, "amount": 0.5, "n_of_m": None}),
    "quantize": (compression.quantize, {
        "model": net(), "scheme": "static", **SIZE, "calibration": BATCHES, "retrain": None}),
    "quantize_rate_distortion": (compression.quantize_rate_distortion, {
        "model": net(), "penalty": 0.02, "relative_step": 0.7, "retrain": same, "settle": 100}),
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
    "sort_units": (compression.sort_units, {"model": net(), **SIZE}),
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
            if argument in FILES and isinstance(odd, str):
                continue  # a path that may or may not be there: Python's own errors
            try:
                function(**given | {argument: odd})
            except InputError as error:
                assert str(error) and "\n" not in str(error)


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
    "GaussNewton without batches": (
        lambda: c.prune(net(), c.GaussNewton(None), amount=0.5), "batches must yield"),
    "a sampler's scores per bit": (lambda: c.PerBit(c.Random()), "criterion gives no scores"),
    "scores per bits that are none": (lambda: c.PerBit(L1(), 0.0), "value_bits must be positive"),
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
    "a number as what McNemar's test is made on": (lambda: c.McNemarStop(3), "data must yield batches"),
    "an array as unit": (lambda: c.prune(net(), L1(), amount=0.5, unit=np.array(["weight"])), "unknown unit"),
    "an array as scope": (lambda: c.prune(net(), L1(), amount=0.5, scope=np.zeros(2)), "unknown scope"),
    "a network as criterion": (
        lambda: c.prune(net(), nn.Linear(2, 2), amount=0.5), "criterion must be .* a function that calls it"),
    "a network as progress": (
        lambda: c.fit(net(), BATCHES, settings=ONCE, progress=nn.Linear(2, 2)), "progress must be True"),
    "a word as sensitivity": (
        lambda: c.prune_to_budget(net(), L1(), **SIZE, budget=Budget("flops", 1), sensitivity="x"),
        "sensitivity must be Sensitivity"),
    "a budget of words": (lambda: Budget("flops", "few"), "at_most must be a number"),
    "a budget of what is none": (lambda: Budget(np.zeros(2), 1), "unknown budget"),
    "a number as choices": (
        lambda: c.allocate_bits(net(), BATCHES, average_bits=9, choices=torch.tensor(3)),
        "choices must be a list"),
    "an infinite damping": (lambda: c.Calibration(BATCHES, damping=math.inf), "damping must"),
    "an infinite penalty": (
        lambda: c.quantize_rate_distortion(net(), penalty=math.inf), "penalty must not be negative, and"),
    "frequencies that are never counted": (
        lambda: c.quantize_rate_distortion(net(), refresh=math.nan), "refresh must be a whole number"),
    "a temperature beyond single precision": (
        lambda: DistillationLoss(temperature=1e308), "temperature must lie between 1e-06 and 100"),
    "a temperature of several teachers": (
        lambda: TeacherEnsemble([net(), net()], temperature=1e5), "temperature must lie between"),
    "a class axis that is a word": (lambda: DistillationLoss(class_axis="x"), "class_axis must"),
    "a beta that is none": (lambda: DistillationLoss(beta=None), "beta must be a number"),
    "a student that is none": (lambda: c.distill(None, net(), BATCHES), "student must be an nn.Module"),
    "no network to rewind to": (lambda: c.rewind(net(), None), "early must be an nn.Module"),
    "a number as layers to factorize": (
        lambda: c.factorize(net(), rank=1, layers=3), "layers must be a list"),
    "a budget of parameters that is none": (
        lambda: c.factorize(net(), budget_parameters=math.nan), "budget_parameters must be a number"),
    "a number to keep": (
        lambda: c.quantize(net(), scheme="weight-only", **SIZE, keep=3), "keep must be a list"),
    "a group size that is a word": (
        lambda: c.quantize(net(), scheme="weight-only", **SIZE, group_size="4"), "group_size must be"),
    "a seed of clusters that is a word": (lambda: c.share_weights(net(), seed="x"), "seed must be a whole"),
    "labels that are a list": (
        lambda: c.prequential_length(lambda rows: net(), lambda rows: BATCHES, [0, 1], classes=2),
        "labels must be an array"),
    "a trainer that is none": (
        lambda: c.prequential_length(None, lambda rows: BATCHES, Y, classes=3), "trained must be a function"),
    "progress that is none": (
        lambda: c.encode_checkpoint("x", "y", on_progress=None), "on_progress must be a function"),
    "an objective of no arguments": (
        lambda: c.fit_together([net()], [BATCHES], objective=lambda: 0), "objective must be a function of 3"),
    "a schedule that is none": (
        lambda: c.fit(net(), BATCHES, settings=TrainingSettings(gradual="x")), "gradual must be"),
    "a scope of a schedule that is none": (
        lambda: c.fit(net(), BATCHES, settings=TrainingSettings(
            gradual=c.GradualPruning(L1(), 0.5, 1, scope="x"))), "unknown scope"),
    "batches without numbers": (
        lambda: c.evaluate(net(), [(X.to("meta"), Y)]), "meta device"),
    "an example without numbers": (
        lambda: c.latency(net(), X.to("meta")), "input_size lies on the meta device"),
    "scales of floats": (
        lambda: TensorBatches(X, Y, mean=(0.5,) * 6, std=(1.0,) * 6), "for pictures of type uint8"),
    "shuffling that is a word": (lambda: TensorBatches(X, Y, shuffle="no"), "shuffle must be True or False"),
    "an augmentation of no arguments": (
        lambda: TensorBatches(X, Y, augment=lambda: X), "augment must be a function of 2"),
    "a repeat that is none": (
        lambda: c.recipe(net(), [], **SIZE, evaluate=score, repeats=None), "repeats must be a whole"),
    "a fresh start that is a word": (
        lambda: squeezed(model=net(), criterion=L1(), amount=0.2, iterations=1, evaluate=score, fresh="no"),
        "fresh must be True or False"),
    "rules that are none": (lambda: capacity.measure(net(), (6,), rules=None), "rules must map"),
    "a rule of a word": (lambda: capacity.measure(net(), (6,), rules={"Linear": len}), "rules must map"),
    "a word as labels": (lambda: capacity.label_entropy("word"), "labels must be"),
    "one-hot labels": (lambda: capacity.label_entropy(torch.eye(3)), r"pass labels.argmax\(1\)"),
    "less than no capacity": (lambda: capacity.memorizable_rows(-1, 2), "capacity_bits not negative"),
    "floats as labels": (
        lambda: capacity.two_part_length(X[:, :3], Y / 2, file_bytes=9), "labels class indices"),
    "points beyond memory": (
        lambda: capacity.memorization(lambda: nn.Linear(4, 1), 4, [2], trials=2**60), "numbers to draw"),
    "counts beyond 64 bits": (lambda: capacity.wilson_interval(3, 10**30), "total must be below"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_passes_for_an_argument_and_is_none_is_refused(name: str) -> None:
    work, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        work()


def test_sparse_labels_are_labels() -> None:
    assert capacity.label_entropy(torch.tensor([0, 1, 1, 0]).to_sparse()) == 1


def test_numbers_of_numpy_do_not_overflow() -> None:
    """200 times 60,000 is infinite in half precision, which numpy multiplies them in."""
    assert capacity.dense_capacity(np.int8(100), np.array([100, 1], dtype=np.int8)) == 10200
    found = capacity.generalization(
        capacity.measure(net(), (6,)), correct=np.uint8(200), total=np.uint8(250), label_bits=np.float16(6e4)
    )
    assert found.bits_per_bit == pytest.approx(200 * 60_000 / found.capacity_bits)


def test_numbers_of_any_type_are_seeds_and_bits_of_criteria() -> None:
    weight = torch.eye(3)
    assert c.Random(torch.tensor(3)).choose(5, 5).tolist() == c.Random(3).choose(5, 5).tolist()
    assert torch.equal(c.EnergyPerBit(10**30)(weight), c.EnergyPerBit(1e30)(weight))


@pytest.mark.parametrize("kind", [np.float32, np.float16, Fraction])
def test_settings_of_any_numeric_type_train_as_pythons_own(kind: Callable[[float], Any]) -> None:
    plain, other = (
        c.fit(net(), BATCHES, settings=replace(ONCE, momentum=number(0.5), weight_decay=number(0)))
        for number in (float, kind)
    )
    assert all(map(torch.equal, plain.model.parameters(), other.model.parameters()))
    assert c.share_weights(net(), bits=torch.tensor([2])).model  # type: ignore[arg-type]


def test_arrays_of_numpy_are_logits_and_labels() -> None:
    logits, labels = X[:, :3], Y
    given = capacity.two_part_length(logits.numpy(), labels.numpy(), file_bytes=9)
    assert given == capacity.two_part_length(logits, labels, file_bytes=9)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_files_give_back_numbers_that_are_none_as_they_were_saved(number: float, tmp_path) -> None:
    model = net()
    model[0].weight.data[1, 2] = number
    compression.save_model(model, tmp_path / "m")
    compression.save_shrunk(model, tmp_path / "s")
    compression.encode(model, tmp_path / "c")
    for found in (
        compression.load_model(net(), tmp_path / "m"),
        compression.load_shrunk(net(), tmp_path / "s"),
        compression.decode(tmp_path / "c", net()),
    ):
        assert torch.equal(found[0].weight.data.view(torch.int32), model[0].weight.data.view(torch.int32))


def test_what_a_function_reads_is_known_by_the_hash_that_it_encloses(tmp_path) -> None:
    path = tmp_path / "numbers.txt"

    def described() -> dict[str, str]:
        sha256 = file_sha256(path)
        return describe(read=lambda: (path.read_text(), sha256))

    path.write_text("1")
    before = described()
    assert described() == before
    path.write_text("2")
    assert described() != before
