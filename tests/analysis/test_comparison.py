"""The comparison through its real entry point: every technique, figures by hand, kills, failures."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import sweeping
import torch
from joblib.externals.loky import get_reusable_executor
from resuming import computed, finished_steps
from running import ends_in_one_line, kill_when, run_command
from torch import nn

from analysis.comparison import ALL, Config, compare, headline, main, pareto, plot, summary, table
from analysis.lab.measurement.deployment import IntegerKernels
from analysis.lab.models import create
from compression.batches import TensorBatches
from compression.checkpoints import load_model
from compression.costs import flops
from compression.quantization import quantize
from compression.shrinking import shrink

FEW = ["masked", "shrunk", "rate-coded", "static-int8"]
SMALL = ["--seeds", "1", "--epochs", "3", "--retrain-epochs", "1", "--repeats", "3", "--techniques", *FEW]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums over several threads round otherwise, and processes share the machine's threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder, text = computed(tmp_path_factory, "comparison", *SMALL)
    assert "masked (mask only)" in text and "by error" in text
    return folder


def test_the_run_folder(undisturbed: Path) -> None:
    files = {path.name for path in undisturbed.iterdir()}
    assert files >= {"results.csv", "summary.csv", "table.tex", "comparison.pdf", "config.json"}
    frame = pd.read_csv(undisturbed / "results.csv")
    assert list(frame["technique"]) == ["baseline", *FEW]
    rows = frame[frame["seed"] == 0].set_index("technique")
    assert rows.loc["baseline", "file_bytes"] > 4 * 99_530 > rows.loc["shrunk", "file_bytes"]
    assert rows.loc["masked", "file_bytes"] == rows.loc["baseline", "file_bytes"]
    assert rows.loc["masked", "coded_bytes"] < rows.loc["baseline", "coded_bytes"] / 3
    assert rows.loc["masked", "theoretical_bytes"] == 4 * rows.loc["masked", "nonzero_parameters"]
    assert rows.loc["static-int8", "file_bytes"] < 0.3 * rows.loc["baseline", "file_bytes"]
    assert rows.loc["static-int8", "capacity_bits"] == rows.loc["baseline", "capacity_bits"]
    assert rows.loc["rate-coded", "file_bytes"] == rows.loc["rate-coded", "coded_bytes"]
    assert list(rows["mask_only"]) == [False, True, False, False, False]
    assert rows.loc["shrunk", "latency_1_ms"] > 0 and rows.loc["baseline", "peak_memory_bytes"] == 2048


def test_flops_by_hand_masked_and_shrunk(undisturbed: Path) -> None:
    frame = pd.read_csv(undisturbed / "results.csv").query("seed == 0").set_index("technique")
    dense = 2 * (64 * 256 + 256 * 256 + 256 * 64 + 64 * 10)
    assert frame.loc["baseline", "flops"] == frame.loc["masked", "flops"] == dense
    first, second, third = 179, 179, 44  # 0.7 times 256, 256 and 64, rounded down
    small = 2 * (64 * first + first * second + second * third + third * 10)
    assert frame.loc["shrunk", "flops"] == small
    model = load_model(
        create("mlp", input_size=(1, 8, 8), classes=10), undisturbed / "seed-0/baseline.safetensors"
    )
    assert flops(shrink(model, (1, 8, 8), amount=0.3).model, (1, 8, 8)) == small


def test_killed_and_resumed_it_gives_the_same_results(undisturbed: Path, tmp_path: Path) -> None:
    """The technique that is left is computed in a worker."""
    folder = tmp_path / "killed"
    call = (*SMALL, "--output", str(folder))
    kill_when("comparison", *call, exists=folder / "seed-0" / "rate-coded.json")
    steps = finished_steps(folder / "seed-0", "*.json")
    main([*call, "--processes", "2"])
    get_reusable_executor(reuse=True).shutdown(kill_workers=True)
    assert len(steps) >= 3 and all(path.stat().st_mtime_ns == moment for path, moment in steps.items())
    timed = [f"{kind}_{size}{unit}" for size in (1, 32) for kind, unit in
             (("latency", "_ms"), ("base_latency", "_ms"), ("speedup", ""))]  # fmt: skip
    ours, theirs = (pd.read_csv(path / "results.csv").drop(columns=timed) for path in (folder, undisturbed))
    pd.testing.assert_frame_equal(ours, theirs)


def test_every_technique_once(tmp_path: Path) -> None:
    config = Config(techniques=ALL, seeds=1, smoke=True, output=str(tmp_path / "all"))
    frame, failures = compare(config)
    assert not failures and list(frame["technique"]) == ["baseline", *ALL]
    assert len(plot(frame, config).axes) == 2 and "FLOPs" in table(frame).text(wide=True)
    assert len(summary(frame)) == 1 + len(ALL)
    told = "\n".join(headline(frame, config))
    frame["steady"] = frame["technique"] != "shrunk"
    assert "times of shrunk are unsteady: take them again on a quiet machine" in headline(frame, config)
    assert "masked: a mask only" in told and "told apart at 5 % (Holm)" in told


def test_a_failing_cell_is_named_and_costs_no_other(tmp_path: Path) -> None:
    call = ["comparison", "--smoke", "--techniques", "static-int8", "masked", "--model", "sweeping:stubborn"]
    paths = os.pathsep.join([str(Path(sweeping.__file__).parent), os.environ.get("PYTHONPATH", "")])
    run = tmp_path / "run"
    done = run_command(*call, "--output", str(run), env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 1 and "1 cells failed" in done.stderr
    assert "seed-0/static-int8: the model cannot be exported" in done.stderr
    assert list(pd.read_csv(tmp_path / "run" / "results.csv")["technique"]) == ["baseline", "masked"]


def test_integers_are_timed_in_onnx_runtime_where_that_is_asked_for() -> None:
    pytest.importorskip("onnxruntime")
    x = torch.randn(2, 6)
    batches = TensorBatches(torch.randn(8, 6), torch.zeros(8, dtype=torch.long), 8)
    result = quantize(nn.Sequential(nn.Linear(6, 3)), scheme="static", input_size=(6,), calibration=batches)
    run, by = IntegerKernels(result, (6,), compile_integers=False).on(x)
    assert by == "ONNX Runtime" and run is not None
    assert torch.from_numpy(run()[0]).allclose(result.model(x), atol=0.05)
    assert IntegerKernels(result, (6,), compile_integers=False, onnx=False).on(x) == (
        None, "reference, not timed",
    )  # fmt: skip


def test_the_settings_of_a_run_do_not_hold_where_it_was_computed(undisturbed: Path) -> None:
    settings = json.loads((undisturbed / "config.json").read_text())["settings"]
    assert "processes" not in settings and settings["seeds"] == 1


def test_pareto_front() -> None:
    generator = torch.Generator().manual_seed(0)
    costs, errors = (torch.rand(50, generator=generator).tolist() for _ in range(2))
    front = pareto(costs, errors)
    ordered = sorted((costs[k], errors[k]) for k in front)
    assert [e for _, e in ordered] == sorted((e for _, e in ordered), reverse=True)
    beaten = [k for k in range(50) if k not in front]
    assert all(any(costs[j] <= costs[k] and errors[j] <= errors[k] for j in front) for k in beaten)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sparsity", "1"], "sparsity must lie between 0 and 1"),
        (["--channels", "0"], "channels must lie between 0 and 1"),
        (["--bits", "0"], "between 1 and 12"),
        (["--processes", "0"], "processes must be at least 1"),
        (["--processes", "2", "--scheduler", "tcp://127.0.0.1:1"], "either processes or a scheduler"),
        (["--dataset", "imagefolder:/nowhere"], "not a folder"),
        (["--model", "mpl"], "did you mean 'mlp'"),
        (["--student", "vgg16bnn"], "did you mean 'vgg16bn'"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_is_written(arguments, message, tmp_path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)
