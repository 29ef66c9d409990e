"""What every command prints can be read at 80, 120 and 200 columns."""

import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from running import run_command

from analysis.__main__ import commands
from analysis.__main__ import main as list_commands
from analysis.lab.runs.loading import COMMANDS, finished
from capacity.columns import KEY
from capacity.tables import Table
from capacity.terminal import broken, cell_len

RECORDED = sorted(Path(__file__).parents[2].glob("paper/runs/*"))
WIDTHS = (80, 120, 200)
UNREADABLE = re.compile(
    r"\bnan\b|NaN|\b1 (seed|network|epoch|thread|layer)s\b|_ms\b|\d[eE][-+]\d\d|\bNone\b|__main__"
    r"|(?<![\w.,])-0(\.0+)?(?![\w.,])"
)


def readable(text: str, width: int) -> None:
    """No line is longer than the terminal, and none says what only a computer would."""
    for line in text.splitlines():
        assert cell_len(line) <= width or " " not in line.strip(), line  # the path of a file is one word
        assert not UNREADABLE.search(line), line


def whole(table: Table, width: int) -> None:
    """Names and numbers are whole, and headings are words; what has no room is named."""
    text = table.text(width)
    readable(text, width)
    told = " ".join(text.partition(" more column")[2].split())
    for column in table.shown:
        cells = [cell for cell in map(column.cell, table.rows) if cell]
        if column.importance >= KEY or not (told and column.heading in told):
            assert column.prose or all(cell in text for cell in cells), column
        assert "_" not in column.heading, column


@pytest.mark.parametrize("folder", RECORDED, ids=lambda path: path.name)
def test_tables_of_recorded_runs_fit(folder: Path) -> None:
    run = finished(folder)
    sentences, tables = run.headline(), run.tables().values()
    for width in WIDTHS:
        readable("\n".join(broken(line, width) for line in sentences), width)
        for table in tables:
            whole(table, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_files_guarantee_fits(width: int) -> None:
    from analysis.certificate import Config
    from analysis.certificate.frontier import certified, headline, table

    run = finished(next(path for path in RECORDED if path.name == "frontier-lenet5"))
    frame = certified(run, Config())
    readable("\n".join(broken(line, width) for line in headline(frame, run, Config())), width)
    whole(table(frame, run, Config()), width)


def test_the_list_of_commands_fits(capsys) -> None:
    for arguments in ([], ["nope"]):
        with suppress(SystemExit):
            list_commands(arguments)
        said = capsys.readouterr()
        readable(said.out, 80)
        assert said.err.count("\n") <= 1


@pytest.mark.parametrize("command", commands())
def test_help_fits(command: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        import_module(f"analysis.{command}").main(["--help"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("usage: ")]
    assert max(map(cell_len, lines)) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_prints_fits(command: str, quick_run, monkeypatch) -> None:
    folder, first = quick_run(command)
    for width in WIDTHS:  # the second and third go on from the first
        monkeypatch.setenv("COLUMNS", str(width))
        again = ("--smoke", "--output", "run")
        done = first if width == 80 else run_command(command, *again, cwd=folder)
        assert done.returncode == 0, done.stderr
        readable(done.stdout, width)
        before = done.stdout.partition("───")[0]
        assert done.stdout.startswith(f"{command}: ") and len(before.split()) > 12  # sentences come first
        assert "\nresults: " in done.stdout and "\nfigure:  " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_timings_fit(width: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = run_command("speed", "--smoke", "--only", "reports", "pruning", "files", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    readable(done.stdout, width)
    assert "torchinfo.summary" in done.stdout and "at least 20" in done.stdout
