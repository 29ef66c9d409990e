"""The speed table through its real entry point; what is missing is skipped by name."""

from pathlib import Path

import pytest
import torch
from running import run_command

from analysis.lab.data.datasets import load
from analysis.speed.config import Config
from analysis.speed.rates import _network


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> str:
    """What a quick pass over all rows prints where there is no data."""
    folder = tmp_path_factory.mktemp("nothing")
    done = run_command("speed", "--preset", "full", "--smoke", "--wide", "--data", str(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_smoke_without_data(shown: str) -> None:
    assert "skipped: MNIST" in shown and "peer / ours" in shown
    assert "skipped: mnist" in shown and "of normal weights, bfloat16" in shown
    assert "start: help of a command" in shown and "skipped: processes" in shown


def test_only_some_rows(tmp_path) -> None:
    done = run_command("speed", "--smoke", "--only", "needs", "decoders", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "requirement of 600 x 784" in done.stdout and "decoder of" in done.stdout
    assert "global mask" not in done.stdout and "int8" not in done.stdout
    assert done.stdout.index("requirement of") < done.stdout.rindex("capacity of a decoder")


def test_what_the_default_leaves_out_is_named(tmp_path) -> None:
    from analysis.speed.config import GROUPS, QUICK
    from analysis.speed.report import JOBS

    assert set(JOBS) == set(GROUPS) and set(QUICK) < set(GROUPS)
    done = run_command("speed", "--smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = next(line for line in done.stdout.split("\n\n") if "not timed without --preset full" in line)
    assert [group for group in GROUPS if group in " ".join(told.split())] == [
        group for group in GROUPS if group not in QUICK
    ]


def test_seeds_together_and_steps_in_half_precision(shown: str) -> None:
    assert "seeds of the digits network, trained together" in shown
    said = "at most: if ours took only its matrix products, and these were as fast as one of 64 x 64"
    assert said in " ".join(shown.split())
    half = "steps of resnet20, channels last and bfloat16" in shown
    assert half != ("skipped: this processor has no bfloat16" in shown)


def test_without_nncodec_it_is_named(shown: str) -> None:
    assert shown.count("skipped: NNCodec") == 2 and "--nncodec PYTHON" in shown


def test_a_network_that_was_kept_is_not_trained_again(tmp_path: Path) -> None:
    data, config = load("digits"), Config(networks=str(tmp_path / "nets"), smoke=True)
    first = _network("resnet20", data, config)
    (path,) = (tmp_path / "nets").iterdir()
    assert path.name == "resnet20-256x1.safetensors"
    written = path.stat().st_mtime_ns
    again = _network("resnet20", data, config)
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    assert path.stat().st_mtime_ns == written and not again.training
    anew = _network("resnet20", data, Config(smoke=True))  # without a folder it is trained anew, as it was
    assert all(map(torch.equal, first.state_dict().values(), anew.state_dict().values()))
