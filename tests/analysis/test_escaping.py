"""Names that are formulas, commands or markup somewhere: shown as they are, and never executed."""

import json
import shlex
import shutil
import struct
import zlib
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.lab.data.folders import read_folder
from analysis.lab.data.pictures import open_picture
from analysis.lab.reporting.documents import Section, to_latex, to_markdown, to_notebook
from analysis.lab.runs.cells import as_read, as_words
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.loading import finished
from analysis.notebook import sections
from analysis.report.page import page
from analysis.reproduce.article_tables import comparison_table, frontier_table
from capacity.errors import InputError

RUNS = Path(__file__).parents[2] / "paper" / "runs"
NAMES = (
    "=cmd|'/c calc'!A0", "+1+1", "-1+1", "@SUM(A1)", r"\\input FILE ", "<script>alert(1)</script>",
    "![x](http://evil/x.png)", "[x](javascript:alert(1))", "x $(touch p)", "`touch p`", "a|b", "x & y % z_1",
)  # fmt: skip


def named(folder: Path, name: str) -> Path:
    """A recorded comparison one of whose techniques has this name."""
    shutil.copytree(RUNS / "six-layer", folder)
    frame = pd.read_csv(folder / "results.csv")
    frame["technique"] = frame["technique"].replace("masked", name)
    (folder / "checksums.json").unlink(missing_ok=True)
    RunDirectory(folder).save_frame(frame)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_shown_and_nothing_else(tmp_path: Path, name: str) -> None:
    run = finished(named(tmp_path / "run", name))
    assert name.strip() in {word.strip() for word in run.frame["technique"]}
    for line in (run.path / "results.csv").read_text().splitlines()[1:]:
        assert not any(cell.strip('"')[:1] in ("=", "@") for cell in line.split(","))
    html = page([run])
    assert "<script>alert" not in html and 'src="http' not in html and 'href="javascript' not in html
    table = comparison_table(run)
    assert r"\input" not in table and "$(" not in table.replace(r"\$(", "")
    book = nbformat.reads(to_notebook(run.title, sections(run, tmp_path)), as_version=4)
    texts = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    assert not any("<script" in text or "![x](" in text or "](java" in text for text in texts)


@pytest.mark.parametrize("name", NAMES)
def test_a_document_shows_names_as_they_are(name: str) -> None:
    table = pd.DataFrame({name: [name, "plain"]})
    parts = [Section(name, [name], table)]
    text = to_markdown(name, parts)
    assert "<script" not in text and "![x](" not in text and "](java" not in text
    assert len({line.count("|") - line.count("\\|") for line in text.splitlines() if line[:1] == "|"}) == 1
    assert r"\input" not in to_latex(parts)


def test_a_method_of_a_frontier_cannot_read_a_file(tmp_path: Path) -> None:
    shutil.copytree(RUNS / "frontier-lenet5", tmp_path / "run")
    text = (tmp_path / "run" / "results.csv").read_text().replace(",rate,", ",\\input /etc/passwd ,")
    (tmp_path / "run" / "results.csv").write_text(text)
    (tmp_path / "run" / "checksums.json").unlink(missing_ok=True)
    table = frontier_table(finished(tmp_path / "run"))
    assert r"\textbackslash{}input /etc/passwd" in table and r"\input" not in table


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_words_come_back_as_they_were(words: list[str]) -> None:
    frame = pd.DataFrame({"name": words, "number": range(len(words))})
    quoted = [word[:1] == "'" and word[1:2] in tuple("=+-@\t\r") for word in words]  # read without it
    expected = [word[1:] if away else word for word, away in zip(words, quoted, strict=True)]
    assert as_read(as_words(frame)).equals(frame.assign(name=expected))


@pytest.mark.parametrize("name", ["x $(touch p)", "a'b", "-x", "a b;c", "`x`"])
def test_a_command_that_is_shown_is_quoted(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(RUNS / "six-layer", tmp_path / "run"))
    facts = json.loads((folder / "config.json").read_text())
    for part in ("settings", "all_settings"):
        facts[part]["dataset"] = name
    facts.pop("sha256_of_the_rest", None)
    (folder / "config.json").write_text(json.dumps(facts))
    words = shlex.split(finished(folder).call)
    assert (f"--dataset={name}" if name.startswith("-") else name) in words


def bomb(path: Path, side: int) -> None:
    """A PNG whose header says that it has side * side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))


@pytest.mark.parametrize("kind", ["bomb", "cut", "text", "pipe", "endless", "empty"])
def test_damaged_pictures_are_named(tmp_path: Path, kind: str) -> None:
    import os

    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        shutil.copy(
            Path(__file__).parents[2] / ".readme" / "capacity_curve.png", tmp_path / name / "good.png"
        )
    path = tmp_path / "cats" / "a.png"
    if kind == "bomb":
        bomb(path, 30_000)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        whole = (tmp_path / "dogs" / "good.png").read_bytes()
        path.write_bytes({"cut": whole[:2000], "text": b"picture", "empty": b""}[kind])
    with pytest.raises(InputError, match=r"a\.png cannot be read as a picture") as error:
        read_folder(tmp_path, 8, 0.5, 0)
    assert "\n" not in str(error.value)


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch) -> None:
    program, ran = tmp_path / "bin" / "gs", tmp_path / "ran"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {ran}\necho 10.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    path = tmp_path / "a.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(OSError, match="cannot identify image file"):
        open_picture(path)
    assert not ran.exists()


@pytest.mark.parametrize("command", ["quantization_table", "pruning_curve", "report", "sizing"])
def test_commands_for_one_process_say_so_under_torchrun(command: str, monkeypatch, capsys) -> None:
    from importlib import import_module

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit) as ending:
        import_module(f"analysis.{command}").main([])
    error = capsys.readouterr().err
    assert ending.value.code == 2 and "start it without torchrun" in error and error.count("\n") == 1


@pytest.mark.parametrize("loops", [1, 3])
def test_links_that_lead_back_up_end(tmp_path: Path, loops: int) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        shutil.copy(RUNS.parents[1] / ".readme" / "capacity_curve.png", tmp_path / name / "good.png")
    for loop in range(loops):
        (tmp_path / "cats" / f"up{loop}").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"cats/up\d is a link to a folder that holds it; remove the link"):
        read_folder(tmp_path, 8, 0.5, 0)


def test_folders_without_end_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("analysis.lab.data.folders.MOST_FOLDERS", 3)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="holds more than 3 folders; name a smaller one"):
        read_folder(tmp_path, 8, 0.5, 0)
