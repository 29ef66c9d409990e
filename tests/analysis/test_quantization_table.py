"""Integers scheme by scheme through the real entry point: sizes, ONNX, resuming, bad input."""

from pathlib import Path

import pandas as pd
import pytest
from running import ends_in_one_line, run_command

from analysis.quantization_table import PRESETS, Config, headline, main, plot, plot_noise, summary, table

SMALL = ["--smoke", "--schemes", "dynamic", "static", "weight-only-4", "uncalibrated"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    done = run_command("quantization_table", *SMALL, "--output", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "speed-ups: quick pass: no verdict" in done.stdout
    assert "no ONNX file of dynamic: ranges that are found while running" in done.stdout
    return path


def test_the_run_folder(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= {
        "results.csv", "table.tex", "quantization_table.pdf", "signal_to_noise.pdf",
    }  # fmt: skip
    frame = pd.read_csv(folder / "results.csv").set_index("scheme")
    assert list(frame.index) == ["float", "dynamic", "static", "weight-only-4", "uncalibrated"]
    for name in frame.index:
        written = "trained" if name == "float" else name
        assert frame.loc[name, "file_bytes"] == (folder / "seed-0" / f"{written}.safetensors").stat().st_size
    assert frame.loc["static", "state_bytes"] < 0.3 * frame.loc["float", "state_bytes"]
    assert frame.loc["weight-only-4", "state_bytes"] < 0.6 * frame.loc["static", "state_bytes"]
    onnx = folder / "seed-0" / "static.onnx"
    assert frame.loc["static", "onnx_bytes"] == onnx.stat().st_size
    assert frame.loc["static", "onnx_agreement"] >= 0.99 and pd.isna(frame.loc["dynamic", "onnx_bytes"])
    assert frame["onnx_refused"].notna().tolist() == [False, True, False, False, False]
    assert frame.loc["uncalibrated", "agreement_with_float"] < frame.loc["static", "agreement_with_float"]
    assert (frame["latency_1_ms"] > 0).all()


def test_finished_schemes_are_not_computed_again(folder: Path, capsys) -> None:
    written = {path: path.stat().st_mtime_ns for path in folder.glob("seed-0/*.json")}
    (folder / "seed-0" / "uncalibrated.json").unlink()
    before = pd.read_csv(folder / "results.csv")
    main([*SMALL, "--output", str(folder)])
    after = pd.read_csv(folder / "results.csv")
    pd.testing.assert_series_equal(before["top1_error"], after["top1_error"])
    kept = {path: moment for path, moment in written.items() if path.stem != "uncalibrated"}
    assert all(path.stat().st_mtime_ns == moment for path, moment in kept.items()) and len(kept) == 4
    assert "uncalibrated" in capsys.readouterr().out


def test_the_table_compares_with_float() -> None:
    rows = [
        {"seed": seed, "scheme": scheme, "top1_error": error + 0.001 * seed, "agreement_with_float": 0.99,
         "state_bytes": 10, "file_bytes": 12, "speedup_1": speed, "speedup_32": speed, "latency_1_ms": 1.0,
         "total": 360, "execution": "eager", "noise_db_8_0": 40.0 + seed, "noise_db_4_0": 16.0 + seed,
         "noise_db_8_2.conv": 38.0, "noise_db_4_2.conv": 14.0}
        for seed in range(3)
        for scheme, error, speed in (("float", 0.02, 1.0), ("static", 0.023, 4.0))
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    means = summary(frame).set_index("scheme")
    assert means.loc["static", "top1_error_difference_mean"] == pytest.approx(0.003)
    assert "+0.30" in str(table(frame))
    assert not any("slower" in line for line in headline(frame, Config()))
    assert "2.conv 14.0 dB, 0 17.0 dB" in "\n".join(headline(frame, Config()))
    assert len(plot(frame, Config()).axes) == 3
    (legend,) = plot_noise(frame).legends
    assert [text.get_text() for text in legend.get_texts()] == ["8 bits", "4 bits"]
    assert all(PRESETS[name].preset == name for name in PRESETS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibration", "0"], "calibration must be at least 1"),
        (["--model", "lenet30"], "did you mean 'lenet300'"),
        (["--repeats", "0"], "repeats must be at least 1"),
        (["--dataset", "imagefolder:/nowhere"], "is not a folder"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_is_written(arguments, message, tmp_path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)
