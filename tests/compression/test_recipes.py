"""recipe(): every technique measured, files that resume, a killed process, published recipes."""

from pathlib import Path

import pytest
import torch
from running import kill_when, run_command
from torch import nn

from analysis.lab.data.datasets import load
from analysis.lab.models import create
from capacity import InputError
from compression.codec import decode, encode
from compression.evaluation import evaluate
from compression.recipes import Technique, recipe
from compression.techniques import (
    distil_quantize_prune,
    factorizing,
    prune_share_code,
    pruning,
    quantizing,
    rounding,
    sharing,
    shrinking,
    sorting,
)
from compression.training import TrainingSettings, fit

DIGITS = load("digits")
SIZE = (1, 8, 8)
SETTINGS = TrainingSettings(epochs=2)


def train(model: nn.Module) -> nn.Module:
    return fit(model, DIGITS.train.batches(64, shuffle=True), settings=SETTINGS).model


def score(model: nn.Module):
    return evaluate(model, DIGITS.test.batches(200))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    return train(create("mlp", input_size=SIZE, classes=10)).eval()


def test_each_step_is_measured(trained: nn.Module, tmp_path: Path) -> None:
    techniques = [
        pruning(amount=0.3, unit="neuron", scope="layer", retrain=train),
        shrinking(SIZE),
        factorizing(rank=0.9),
        pruning(amount=0.5),
        rounding(retrain=train),
    ]
    with pytest.raises(InputError, match="different names"):
        recipe(trained, techniques, input_size=SIZE, evaluate=score)
    techniques[3] = Technique("prune weights", pruning(amount=0.5).apply)
    result = recipe(trained, techniques, input_size=SIZE, evaluate=score, repeats=3)
    frame = result.to_frame().set_index("technique")
    assert list(frame.index) == ["as given", "prune", "shrink", "factorize", "prune weights", "round"]
    assert frame["parameters"].iloc[1] == frame["parameters"].iloc[0]  # masks remove nothing
    assert frame.loc["shrink", "parameters"] == frame.loc["prune", "live_parameters"]
    assert frame.loc["factorize", "parameters"] < frame.loc["shrink", "parameters"]
    assert frame.loc["prune weights", "file_bytes"] < 0.7 * frame.loc["factorize", "file_bytes"]
    assert frame.loc["round", "file_bytes"] == encode(result.model, tmp_path / "net.dcz")
    assert frame.loc["round", "file_bytes"] < 0.3 * frame.loc["prune weights", "file_bytes"]
    assert frame["points_per_bit"].iloc[-1] > frame["points_per_bit"].iloc[0]
    assert (frame["latency_ms"] > 0).all() and (frame["peak_memory_bytes"] > 0).all()
    assert "| file [bytes] |" in result.table().to_markdown() and r"\toprule" in result.to_latex()


def test_sorted_units_make_the_file_smaller_and_nothing_else(trained: nn.Module, tmp_path: Path) -> None:
    techniques = [pruning(amount=0.7), rounding(), sorting(SIZE)]
    for resumed in (False, True):
        result = recipe(
            trained, techniques, input_size=SIZE, evaluate=score, directory=tmp_path / "chain", repeats=2
        )
        before, after = (step.metrics for step in result.steps[-2:])
        assert after["file_bytes"] < before["file_bytes"] - 20
        for key in ("correct", "live_parameters", "capacity_bits"):
            assert after[key] == before[key]
        assert all(step.resumed == resumed for step in result.steps)
    encode(result.model, tmp_path / "net.dcz")
    decoded = decode(tmp_path / "net.dcz", create("mlp", input_size=SIZE, classes=10))
    assert score(decoded) == score(result.model)


def test_it_resumes_from_the_last_whole_step(trained: nn.Module, tmp_path: Path) -> None:
    calls: list[str] = []

    def counted(model: nn.Module) -> nn.Module:
        calls.append("trained")
        return train(model)

    def run(techniques):
        return recipe(trained, techniques, input_size=SIZE, evaluate=score, directory=tmp_path, repeats=2)

    techniques = [
        pruning(amount=0.3, unit="neuron", scope="layer", retrain=counted),
        shrinking(SIZE), factorizing(rank=0.9), sharing(bits=3, retrain=counted),
        quantizing(SIZE, calibration=DIGITS.train.batches(200)),
    ]  # fmt: skip
    first = run(techniques)
    assert calls == ["trained", "trained"]
    again = run(techniques)
    assert calls == ["trained", "trained"] and all(step.resumed for step in again.steps)
    assert again.to_frame().equals(first.to_frame())
    x = DIGITS.test.batches(50)
    for one, two in zip(first.steps, again.steps, strict=True):
        assert all(torch.equal(one.model(inputs), two.model(inputs)) for inputs, _ in x), one.technique
    (tmp_path / "step-04.json").unlink()
    run(techniques)
    assert calls == ["trained"] * 3
    with pytest.raises(InputError, match="another techniques"):
        run(techniques[:2])


def test_quantized_graphs_say_what_they_cannot(trained: nn.Module) -> None:
    result = recipe(
        trained, [quantizing(SIZE, scheme="weight-only")], input_size=SIZE, evaluate=score, repeats=2
    )
    last = result.steps[-1].metrics
    assert last["capacity_bits"] is None and last["file_bytes"] < 0.4 * result.steps[0].metrics["file_bytes"]
    cells = result.table().to_markdown().splitlines()[-1].split("|")
    assert cells[1].strip() == result.steps[-1].technique and cells[3].strip() == "-"


def test_metrics_of_ones_own_stand_in_the_table(trained: nn.Module) -> None:
    def own(model: nn.Module) -> dict[str, float]:
        return {"top1_error": 0.25, "recall_at_5": 0.5, "own_error": 0.125, "classes": 10}

    result = recipe(trained, [rounding()], input_size=SIZE, evaluate=own, repeats=1)
    head, _, first, _ = result.table().to_markdown().splitlines()
    assert head.startswith("| technique | recall at 5 | own error [%] | top-1 error [%] |")
    assert first.startswith("| as given | 0.5 | 12.50 | 25.00 |") and "classes" not in head
    assert r"$\rho$" in result.to_latex() and "recall" in result.table().text(80)


def test_the_published_recipes(trained: nn.Module) -> None:
    student = create("mlp_student", input_size=SIZE, classes=10)
    data = DIGITS.train.batches(64, shuffle=True)
    small = recipe(
        trained, distil_quantize_prune(student, data, settings=SETTINGS), input_size=SIZE, evaluate=score,
        repeats=2,
    )  # fmt: skip
    assert [step.technique for step in small.steps] == ["as given", "distil", "share", "prune"]
    assert small.steps[1].metrics["parameters"] < small.steps[0].metrics["parameters"]
    deep = recipe(
        trained,
        prune_share_code(amount=0.8, bits=4, retrain=train),
        input_size=SIZE,
        evaluate=score,
        repeats=2,
    )
    sizes = [step.metrics["file_bytes"] for step in deep.steps]
    assert sizes[2] < sizes[1] < sizes[0] and sizes[2] < sizes[0] / 15


def test_killed_it_goes_on(tmp_path: Path) -> None:
    script = (
        "import sys, torch\n"
        "from analysis.lab.models import create\n"
        "from compression.recipes import recipe\n"
        "from compression.techniques import factorizing, pruning, sharing\n"
        "torch.manual_seed(0)\n"
        "model = create('mlp', input_size=(1, 8, 8), classes=10).eval()\n"
        "steps = [pruning(amount=0.5), sharing(bits=6), factorizing(rank=0.99)]\n"
        "found = recipe(model, steps, input_size=(1, 8, 8), evaluate=lambda m: {}, directory=sys.argv[1])\n"
        "print([step.resumed for step in found.steps])\n"
    )
    folder, file = tmp_path / "recipe", tmp_path / "script.py"
    file.write_text(script)
    kill_when(str(file), str(folder), exists=folder / "step-01.json")
    done = run_command(str(file), str(folder))
    assert done.stdout.startswith("[True, True") and not list(folder.glob("**/.*")), done.stderr
