"""Seeds, devices and number types of the commands that train; what older runs stored stays theirs."""

import importlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from running import ends_in_one_line
from safetensors.torch import load_file

from analysis.capacity_curve import Config, main, run
from analysis.comparison import main as compare
from analysis.lab.runner import Runner
from analysis.lab.runs.directory import settings_of
from analysis.lab.settings import RunnerSettings
from analysis.quantization_table import main as quantize
from capacity import InputError
from compression.checkpoints import load_json
from compression.processes import DEVICE, own_device, use_device

QUICK = Config(smoke=True, iterations=1, limit=64)


@pytest.fixture(autouse=True)
def device_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE, "cpu")  # so that what a test sets is undone


def test_the_first_seed_is_the_one_asked_for(tmp_path: Path) -> None:
    later = run(replace(QUICK, seed=1, output=str(tmp_path / "later")))
    assert set(later["seed"]) == {1}
    assert [path.name for path in (tmp_path / "later").glob("seed-*")] == ["seed-1"]
    assert range(3, 5) == replace(QUICK, seed=3, seeds=2).trial_seeds


def test_initial_weights_are_those_of_the_seed_and_the_type_asked_for() -> None:
    single, double = (Runner(RunnerSettings(dtype=name)) for name in ("float32", "float64"))
    for seed in (0, 5):
        torch.manual_seed(99)
        one, two = single.network(seed).state_dict(), double.network(seed).state_dict()
        assert {tensor.dtype for tensor in two.values()} == {torch.float64}
        assert all(torch.equal(one[key].double(), two[key]) for key in one)
    assert not torch.equal(single.network(0)[1].weight, single.network(1)[1].weight)


def test_what_is_trained_has_the_type_asked_for(tmp_path: Path) -> None:
    run(replace(QUICK, dtype="float64", output=str(tmp_path / "run")))
    weights = load_file(tmp_path / "run" / "seed-0" / "trained.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float64}


def test_the_device_is_where_training_goes_on_and_is_no_part_of_a_run(tmp_path: Path) -> None:
    assert use_device("cpu") == own_device() == torch.device("cpu")
    os.environ[DEVICE] = "cuda:7"
    assert own_device() == torch.device("cuda:7")
    Runner(RunnerSettings(device="cpu"))
    assert own_device() == torch.device("cpu")
    assert settings_of(replace(QUICK, device="cpu")) == settings_of(QUICK)
    environment = tmp_path / "run"
    run(replace(QUICK, device="cpu", output=str(environment)))
    assert json.loads((environment / "environment.json").read_text())["device"] == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_devices_that_are_not_here_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}' is not here"):
        use_device(name)
    assert os.environ[DEVICE] == "cpu"


def test_types_that_cannot_be_are_refused(tmp_path: Path, capsys) -> None:
    both = ["--smoke", "--dtype", "bfloat16", "--mixed-precision", "bf16"]
    ends_in_one_line(main, both, "mixed precision keeps weights in float32", tmp_path / "none", capsys)
    for command in (compare, quantize):
        wrong = ["--smoke", "--dtype", "float64"]
        ends_in_one_line(command, wrong, "integers are made of float32 weights", tmp_path / "none", capsys)


@pytest.mark.parametrize(
    "name",
    ["capacity_curve", "pruning_curve", "distillation_table", "quantization_table", "compression_frontier",
     "comparison"],
)  # fmt: skip
def test_runs_stored_before_these_settings_were_there_are_found_again(tmp_path: Path, name: str) -> None:
    experiment = importlib.import_module(f"analysis.{name}").EXPERIMENT
    later = {
        "label", "categories", "text", "tokenizer", "split_column", "split_seed", "seed", "device", "dtype",
    }  # fmt: skip
    for preset, config in experiment.presets.items():
        assert not later & settings_of(config).keys()
        config = replace(config, output=str(tmp_path / preset))
        record = experiment.directory(config).path / "config.json"
        facts = load_json(record)  # whose seal earlier releases did not write either
        for key in later:
            facts["all_settings"].pop(key)
        record.write_text(json.dumps(facts), encoding="utf-8")
        assert experiment.directory(config).path == tmp_path / preset
        with pytest.raises(InputError, match="seed 0 and not 4"):
            experiment.directory(replace(config, seed=4))


def test_names_of_run_folders_are_what_they_were() -> None:
    assert settings_of(Config(dataset="mnist", amount=0.1)) == {"dataset": "mnist", "amount": 0.1}


def test_results_of_later_seeds_are_those_of_a_longer_run(tmp_path: Path) -> None:
    quick = replace(QUICK, smoke=False, epochs=1, retrain_epochs=1)
    both = run(replace(quick, seeds=2, output=str(tmp_path / "both")))
    second = run(replace(quick, seeds=1, seed=1, output=str(tmp_path / "second")))
    expected = both[both["seed"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(second, expected)
