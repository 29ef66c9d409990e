"""Results in TensorBoard, MLflow and Weights & Biases, each in a store of its own on this disk."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from capacity import InputError
from compression import L1, TrainingSettings, evaluate, fit, recipe, squeeze
from compression.identity import describe
from compression.techniques import pruning
from compression.trackers import TrackedRun, track

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
DATA = [(X, (X[:, 0] > 0).long())]
TWO = TrainingSettings(epochs=2)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def test_any_function_is_a_tracker() -> None:
    seen: list[tuple[int, Mapping[str, float]]] = []

    def note(values: Mapping[str, float], step: int) -> None:
        seen.append((step, values))

    found = fit(network(), DATA, settings=TWO, validation=DATA, tracker=note)
    assert seen == [(1, found.history[0]), (2, found.history[1])]
    seen.clear()
    score = lambda m: {**evaluate(m, DATA).to_dict(), "verdict": "good"}  # noqa: E731
    retrain = lambda m: fit(m, DATA, settings=TWO)  # noqa: E731
    steps = list(
        squeeze(
            network(), L1("zero"), amount=0.5, iterations=1, retrain=retrain, evaluate=score, tracker=note
        )
    )
    assert [step for step, _ in seen] == [0, 1] and "verdict" not in seen[0][1]
    assert seen[1][1]["density"] == steps[1].density and seen[1][1]["kappa"] == steps[1].metrics["kappa"]
    seen.clear()
    done = recipe(network(), [pruning(amount=0.5)], input_size=(4,), evaluate=score, repeats=1, tracker=note)
    assert [values["file_bytes"] for _, values in seen] == done.to_frame()["file_bytes"].to_list()


def _same(model: Any) -> Any:
    return model


@pytest.mark.parametrize("call", ["fit", "squeeze", "recipe"])
def test_a_name_is_no_tracker(call: str) -> None:
    wrong: Any = "wandb"
    calls = {
        "fit": lambda: fit(network(), DATA, tracker=wrong),
        "squeeze": lambda: squeeze(
            network(), None, amount=0, iterations=0, retrain=_same, evaluate=_same, tracker=wrong
        ),
        "recipe": lambda: recipe(network(), [], input_size=(4,), evaluate=_same, tracker=wrong),
    }
    with pytest.raises(InputError, match=r"a tracker is a function \(values, step\), .*; found 'wandb'"):
        calls[call]()


def test_a_tracker_is_not_what_results_depend_on(tmp_path: Path) -> None:
    def steps(tracker: TrackedRun) -> list[bool]:
        retrain = lambda m: fit(m, DATA, settings=TWO, tracker=tracker)  # noqa: E731
        score = lambda m: evaluate(m, DATA)  # noqa: E731
        done = squeeze(
            network(), L1("zero"), amount=0.5, iterations=1, retrain=retrain, evaluate=score,
            directory=tmp_path,
        )  # fmt: skip
        return [step.resumed for step in done]

    with open(tmp_path / "log", "w", encoding="utf-8") as file:
        first = TrackedRun(lambda values, step: file.write(f"{step}\n"))
        assert describe(tracker=first) == {"tracker": "a tracker"}
        assert steps(first) == [False, False]
    assert steps(TrackedRun(lambda values, step: None)) == [True, True]


def test_values_that_are_no_numbers_stay_out() -> None:
    seen: list[Any] = []
    run = TrackedRun(lambda values, step: seen.append(values))
    run({"a": 1, "b": float("nan"), "c": None, "d": "word", "e": float("inf"), "f": True}, 0)
    assert seen == [{"a": 1.0, "f": 1.0}]


def test_an_unknown_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown tracker 'wandbb'; did you mean 'wandb'"):
        track("wandbb", tmp_path).__enter__()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_what_is_not_installed_is_named_with_its_extra(kind: Any, tmp_path: Path) -> None:
    try:
        __import__(kind)
    except ImportError:
        with pytest.raises(
            InputError, match=rf"{kind} is not installed: pip install 'deepcapacity\[{kind}\]'"
        ):
            track(kind, tmp_path).__enter__()
    else:
        pytest.skip(f"{kind} is installed")


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with track("tensorboard", tmp_path, name="mine", settings={"epochs": 2}) as tracker:
        found = fit(network(), DATA, settings=TWO, validation=DATA, tracker=tracker)
    events = EventAccumulator(str(tmp_path / "mine"))
    events.Reload()
    points = events.Scalars("training_loss_nats")
    assert [point.step for point in points] == [1, 2]
    assert [point.value for point in points] == pytest.approx(
        found.to_frame()["training_loss_nats"].to_list()
    )


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for _ in range(2):  # the second time the run is gone on with
        with track("mlflow", tmp_path, name="mine", project="digits", settings={"epochs": 2}) as tracker:
            found = fit(network(), DATA, settings=TWO, validation=DATA, tracker=tracker)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert (
        run.info.run_name == "mine" and run.info.status == "FINISHED" and run.data.params == {"epochs": "2"}
    )
    history = client.get_metric_history(run.info.run_id, "training_loss_nats")
    assert {point.step: point.value for point in history} == {
        entry["epoch"]: entry["training_loss_nats"] for entry in found.history
    }
    fit(network(), DATA, settings=TWO, tracker=mlflow.log_metrics)  # as it is
    mlflow.end_run()


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with track("wandb", tmp_path, name="mine", project="digits", settings={"epochs": 2}) as tracker:
        found = fit(network(), DATA, settings=TWO, validation=DATA, tracker=tracker)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-mine.wandb")
    content = file.read_bytes()
    for entry in found.history:
        assert all(name.encode() in content for name in entry)
        assert json.dumps(entry["training_loss_nats"]).encode() in content
    assert wandb.run is None


def test_the_library_logs_and_prints_nothing(capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    with caplog.at_level(logging.INFO, logger="compression"):
        fit(network(), DATA, settings=TWO, validation=DATA, progress=True)
        retrain = lambda m: fit(m, DATA, settings=TWO)  # noqa: E731
        score = lambda m: evaluate(m, DATA)  # noqa: E731
        list(
            squeeze(
                network(),
                L1("zero"),
                amount=0.5,
                iterations=1,
                retrain=retrain,
                evaluate=score,
                progress=True,
            )
        )
    assert capfd.readouterr() == ("", "")  # no terminal, so no bar
    assert caplog.messages[0].startswith("epoch 1 of 2: training loss nats 0.")
    assert "validation top1 error 0." in caplog.messages[0]
    assert caplog.messages[2].startswith("step 0: achieved 0, density 1.0000")
