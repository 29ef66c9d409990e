"""Consoles that lack characters and pipes that close stop no command; impossible numbers do, in one line."""

import dataclasses
import os
import subprocess
import sys
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest
from running import call_of, ends_in_one_line, run_command

from analysis.lab.cli import check_numbers
from analysis.lab.consoles import Patient, patient_streams
from capacity import InputError

EXPERIMENTS = (
    "capacity_curve", "pruning_curve", "compression_frontier", "comparison", "distillation_table",
    "quantization_table",
)  # fmt: skip
OTHERS = ("capacity_report", "data_requirement", "memorization_curve", "speed")
FILES = {"results.csv", "table.tex", "data_requirement.pdf", "data_requirement.png", "config.json"}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_every_file_is_written_whatever_the_console_can_show(tmp_path, encoding: str) -> None:
    done = run_command(
        "data_requirement", "--smoke", "--output", str(tmp_path / "run"),
        env=os.environ | {"PYTHONIOENCODING": encoding}, encoding=encoding,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} >= FILES
    assert ("──" in done.stdout) == (encoding == "utf-8") and "label changes" in done.stdout
    assert ("-----" in done.stdout) == (encoding != "utf-8")


def test_a_pipe_that_closes_after_a_line_loses_no_file(tmp_path) -> None:
    call = call_of("data_requirement", "--smoke", "--output", str(tmp_path / "run"))
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait() == 0 and "Error" not in error
    assert {path.name for path in (tmp_path / "run").iterdir()} >= FILES


def test_what_is_printed_after_a_pipe_has_closed_is_dropped() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = Patient(os.fdopen(write, "w"))
    for _ in range(3):
        assert stream.write("x" * 10_000) == 10_000
        stream.flush()
    assert stream.encoding and not stream.isatty()
    stream.stream.close()


def test_the_streams_are_as_before_afterwards(monkeypatch) -> None:
    out = StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with patient_streams():
        sys.stdout.write("text")
    assert sys.stdout is out and out.getvalue() == "text"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="takes a device that is always full")
def test_a_log_on_a_full_disk_stops_nothing(capfd) -> None:
    stream = Patient(open("/dev/full", "w"))  # noqa: SIM115
    assert stream.write("text") == 4
    stream.flush()
    stream.write("more")
    stream.flush()
    stream.close()
    said = capfd.readouterr().err
    assert said == "what is printed from here on is lost: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_lead_nowhere(closed: str, tmp_path: Path) -> None:
    code = (
        "from analysis.lab.consoles import open_streams, patient_streams\nimport os, sys\nopen_streams()\n"
        "file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\nassert file > 2, file\n"
        "with patient_streams(): print('out'); print('error', file=sys.stderr)\n"
        "assert sys.stdin.read() == ''\nos.write(file, b'mine')\n"
    )
    call = ["sh", "-c", f'exec "$0" -c "$1" "$2" {closed}', sys.executable, code, str(tmp_path / "file")]
    done = subprocess.run(call, input="", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert (done.stdout, done.stderr) == (
        "" if ">&- " in f" {closed} ".replace("2>&-", "") else "out\n", "" if "2>&-" in closed else "error\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2**32}, "seed must be below 4,294,967,296, found 4294967296"),
        ({"epochs": 2**48}, "epochs must be below 281,474,976,710,656"),
        ({"limit": 10**5000}, r"limit must be below 281,474,976,710,656, found a number of 16,610 bits"),
        ({"batch_size": -(10**5000)}, r"batch_size must be at least 1, found a number of 16,610 bits"),
    ],
)
def test_numbers_too_large_for_any_machine_are_refused(changes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_numbers(dataclasses.replace(import_module("analysis.capacity_curve").Config(), **changes))


@pytest.mark.parametrize("command", EXPERIMENTS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "-5"], "limit must be at least 1, found -5"),
        (["--limit", "0"], "limit must be at least 1, found 0"),
        (["--shift", "-1"], "shift must not be negative, found -1"),
        (["--weight-decay", "-1"], "weight_decay must not be negative, found -1"),
        (["--learning-rate", "inf"], "learning_rate must be a finite number, found inf"),
        (["--learning-rate", "0"], "learning_rate must be positive, found 0"),
    ],
)
def test_numbers_that_cannot_be_end_in_one_line(command, arguments, message: str, tmp_path, capsys) -> None:
    main = import_module(f"analysis.{command}").main
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)


@pytest.mark.parametrize("command", [*EXPERIMENTS, *OTHERS])
def test_no_number_of_any_command_may_be_negative(command: str) -> None:
    module = import_module(f"analysis.{command}")
    for config in [module.Config(), *getattr(module, "PRESETS", {}).values()]:
        check_numbers(config)
    for field in dataclasses.fields(module.Config):
        value = getattr(module.Config(), field.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            for wrong in (-1, float("nan")):
                with pytest.raises(InputError, match=field.name):
                    check_numbers(dataclasses.replace(module.Config(), **{field.name: wrong}))


def test_a_number_of_processes_that_is_none_ends_in_one_line() -> None:
    done = subprocess.run(
        call_of("capacity_curve", "--smoke"),
        env=os.environ | {"WORLD_SIZE": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "WORLD_SIZE must be a whole number, found ''" in done.stderr
