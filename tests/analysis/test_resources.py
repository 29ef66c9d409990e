"""What a run takes, said and refused; and how many processes compute at once."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from running import run_command

from analysis import adequate_size, generalization_study, memorization_bounds, reparametrization, sizing
from analysis.capacity_curve.config import Config
from analysis.lab.needs import (
    CELL_BYTES,
    COPIES,
    Need,
    dense_sizes,
    need_of,
    need_of_cells,
    require_room,
    training_seconds,
)
from analysis.lab.resources import cores, fitting_processes, free_disk, free_memory, left_in_group, one_thread
from analysis.lab.runner import Runner
from capacity import InputError

NEED = Need(1_000, 10, 128, 500, 5_000)


def test_a_run_needs_its_weights_thrice_and_its_activations_per_sample() -> None:
    config = Config(model="lenet300", limit=256, batch_size=1_000, seeds=1)
    runner = Runner(config)
    weights = 4 * sum(p.numel() for p in runner.example.parameters())
    outputs = 64 + 2 * 300 + 2 * 100 + 10  # Flatten, both dense layers and their ReLU, and the logits
    need = need_of(runner, config, 14)
    assert need.network_bytes == COPIES * weights and need.sample_bytes == 4 * outputs
    assert need.batch_size == len(runner.data.train) < 1_000
    assert (need.least_disk_bytes, need.disk_bytes) == (weights, 14 * weights)
    three = replace(config, seeds=3)
    assert need_of(Runner(three), three, 14) == Need(
        3 * need.network_bytes, 3 * need.sample_bytes, need.batch_size, 3 * weights, 3 * 14 * weights
    )


@given(st.integers(0, 2**40), st.integers(0, 2**20), st.integers(1, 2**16))
def test_memory_is_that_of_networks_and_a_batch(network: int, sample: int, batch: int) -> None:
    assert Need(network, sample, batch, 0, 0).memory_bytes == network + batch * sample


def test_what_is_advised_fits(tmp_path: Path) -> None:
    free = free_memory()
    need = replace(NEED, sample_bytes=free // 100, batch_size=10_000)
    with pytest.raises(InputError, match=r"batches of 10,000 .*--batch-size (64|32) would fit"):
        require_room(need, tmp_path)
    require_room(replace(need, batch_size=32), tmp_path)
    with pytest.raises(InputError, match="a smaller --model would fit"):
        require_room(replace(NEED, network_bytes=2 * free), tmp_path)


def test_a_disk_too_small_is_refused_unless_the_networks_are_there(tmp_path: Path) -> None:
    require_room(NEED, tmp_path / "not" / "yet")
    room = free_disk(tmp_path / "not" / "yet")
    with pytest.raises(InputError, match=r"the trained networks alone take .* of disk.*fewer --seeds"):
        require_room(replace(NEED, least_disk_bytes=room + 2**40), tmp_path)
    with open(tmp_path / "a.safetensors", "wb") as file:
        file.truncate(2**41)
    require_room(replace(NEED, least_disk_bytes=room + 2**40), tmp_path)


def test_a_wrong_option_costs_a_line_and_not_the_machine(tmp_path: Path) -> None:
    options = ["--seeds", "1000000000", "--limit", "64", "--output", str(tmp_path / "run")]
    done = run_command("capacity_curve", *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "takes about" in done.stdout and "takes at least" in done.stderr


def test_processes_are_capped_by_cores_cells_and_memory(capsys) -> None:
    most = 10**15
    assert fitting_processes(1, 5, most) == 1 and fitting_processes(10**6, 1, most) == 1
    assert fitting_processes(10**6, 10**6, most) == cores()
    assert f"not 1000000: {cores()} core" in capsys.readouterr().out
    assert fitting_processes(2, 5, 1) == 1
    assert "1 process at once, not 2: memory for" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are tied to cores on Linux")
def test_cores_are_those_that_this_process_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code += "from analysis.lab.resources import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_measuring_leaves_the_network_as_it_was() -> None:
    config = Config(limit=64, seeds=1)
    runner = Runner(config)
    runner.example.train()
    need_of(runner, config, 1)
    assert runner.example.training
    assert not any(layer._forward_hooks for layer in runner.example.modules())
    assert all(p.grad is None for p in runner.example.parameters()) and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("most", "parts", "left"),
    [
        ("1000", "anon 300\ninactive_file 200\n", 700),
        ("1000", "inactive_file 0\ntotal_inactive_file 200\n", 700),
        ("1000", "anon 500\n", 500),
        ("max", "anon 300\n", None),
    ],
)
def test_what_a_group_may_take_is_its_limit_without_what_it_holds_but_for_cached_files(
    tmp_path, most: str, parts: str, left: int | None
) -> None:
    paths = [tmp_path / name for name in ("most", "held", "parts")]
    for path, text in zip(paths, (most, "500", parts), strict=True):
        path.write_text(text)
    assert left_in_group(*paths) == left
    assert left_in_group(paths[0], paths[1], tmp_path / "none") is None


def test_training_is_timed_on_a_few_batches_and_leaves_the_network_as_it_was() -> None:
    config = Config(model="lenet300", limit=256, batch_size=32, seeds=1)
    runner = Runner(config)
    before = [p.clone() for p in runner.example.parameters()]
    one, ten = (training_seconds(runner, config, epochs) for epochs in (1, 1_000))
    assert 0 < one < ten
    assert all(map(torch.equal, before, runner.example.parameters()))


def test_dense_sizes_are_those_of_the_network() -> None:
    layers = [torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 5), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(5, 3))
    parameters, outputs = dense_sizes(7, 2, 5, 3)
    assert parameters == sum(p.numel() for p in network.parameters())
    assert outputs == 7 + 4 * 5 + 3
    assert need_of_cells(2, (parameters, outputs), 10, 6, "less") == Need(
        2 * COPIES * 4 * parameters, 2 * 4 * outputs, 10, 0, 6 * CELL_BYTES, "less"
    )


@pytest.mark.parametrize(
    ("experiment", "options"),
    [
        (adequate_size, {"widths": (1, 10**10), "limit": 64}),
        (generalization_study, {"widths": (10**6,), "datasets": ("wine",), "depths": (2, 3)}),
        (memorization_bounds, {"networks": ("dense-3x99999",)}),
        (reparametrization, {"width": 10**8}),
        (sizing, {"widths": (1, 10**10)}),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else "",
)
def test_cells_too_large_are_refused_before_anything_is_written(
    experiment, options, tmp_path: Path, capsys
) -> None:
    config = experiment.Config(output=str(tmp_path / "run"), **options)
    with pytest.raises(InputError, match=r"at least .* GB of memory.*: (a )?smaller --[wn].* would fit"):
        experiment.run(config)
    assert capsys.readouterr().out.startswith("takes about") and not (tmp_path / "run").exists()


def test_the_first_cell_tells_the_pace(tmp_path: Path, capsys) -> None:
    config = adequate_size.Config(widths=(1, 2, 3), seeds=1, epochs=1, limit=64, output=str(tmp_path / "run"))
    adequate_size.run(config)
    told = [line for line in capsys.readouterr().out.splitlines() if "at this pace" in line]
    assert len(told) == 1 and re.fullmatch(
        r"1 took \d+\.\d s; 2 more widths at this pace take under a minute", told[0]
    )
    adequate_size.run(config)
    assert "at this pace" not in capsys.readouterr().out


def test_threads_come_back_however_it_ends() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="within"), one_thread():
            assert torch.get_num_threads() == 1
            raise ValueError("within")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
