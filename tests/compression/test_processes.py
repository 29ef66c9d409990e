"""Two real processes, under torchrun or told the same, train and score as one; only the first writes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import run_command, run_in_two

from capacity import InputError
from compression.processes import rank

HERE = Path(__file__).parents[1] / "helpers"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def pair() -> tuple[dict, dict]:
    together = subprocess.run(
        [*TORCHRUN, "together.py"], capture_output=True, text=True, cwd=HERE, timeout=90
    )
    alone = run_command(str(HERE / "together.py"), cwd=HERE)
    assert together.returncode == alone.returncode == 0, together.stderr + alone.stderr
    return json.loads(together.stdout.splitlines()[-1]), json.loads(alone.stdout)


def test_the_loss_curve_is_that_of_one_process_with_the_same_global_batch(pair) -> None:
    together, alone = pair
    assert together["processes"] == 2 and alone["processes"] == 1 and len(alone["losses"]) == 20
    np.testing.assert_allclose(together["losses"], alone["losses"], rtol=0, atol=1e-5)
    assert alone["losses"][-1] < 0.9 * alone["losses"][0]


def test_batches_that_cannot_be_halved_weigh_right(pair) -> None:
    together, alone = pair
    np.testing.assert_allclose(together["weights"], alone["weights"], rtol=0, atol=1e-5)


def test_no_sample_counts_twice(pair) -> None:
    together, alone = pair
    assert together["scores"]["total"] == 103 and together["errors"] == alone["errors"]
    for key, value in alone["scores"].items():
        assert together["scores"][key] == pytest.approx(value, abs=1e-6), key


def test_no_thread_of_the_group_outlives_it(pair) -> None:
    """One that does may abort the interpreter at its end, after everything was computed and written."""
    assert not [name for name in pair[0]["threads"] if "gloo" in name]


def test_parameters_that_nothing_depends_on_are_named(pair) -> None:
    together, alone = pair
    assert "no output depends on idle" in together["refused"] and not alone["refused"]


def test_the_main_command_in_two_processes(tmp_path: Path) -> None:
    options = ["--smoke", "--dataset", "digits", "--output"]
    ranks = run_in_two("capacity_curve", *options, str(tmp_path / "two"), cwd=tmp_path)
    alone = run_command("capacity_curve", *options, str(tmp_path / "one"), cwd=tmp_path)
    assert [done.returncode for done in (*ranks, alone)] == [0, 0, 0], ranks
    assert "results: " in ranks[0].stdout and "results: " not in ranks[1].stdout
    names = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*")}
    assert {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*")} == names
    import pandas as pd

    two, one = (pd.read_csv(tmp_path / name / "results.csv") for name in ("two", "one"))
    pd.testing.assert_frame_equal(two, one, rtol=0.02)


@pytest.mark.parametrize(("variable", "text"), [("WORLD_SIZE", ""), ("WORLD_SIZE", "0"), ("RANK", "one")])
def test_an_environment_that_holds_no_number_is_named(monkeypatch, variable: str, text: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(variable, text)
    with pytest.raises(InputError, match=f"{variable} must be a whole number, found '{text}'"):
        rank()
