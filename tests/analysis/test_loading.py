"""Run folders read back: commands quoted for a shell, stories, and folders that come from a stranger."""

import dataclasses
import importlib
import json
import shlex
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.lab.cli import parse
from analysis.lab.runs.loading import COMMANDS, Run, finished
from capacity.errors import InputError

RECORDED = sorted(Path(__file__).parents[2].glob("paper/runs/*"))
FRONTIER = next(path for path in RECORDED if path.name == "frontier-lenet300")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A recorded run in a folder of its own, to be damaged."""
    return Path(shutil.copytree(FRONTIER, tmp_path / "run"))


def changed(folder: Path, **settings: object) -> Run:
    """The run in the folder with other settings on record."""
    path = folder / "config.json"
    facts = json.loads(path.read_text())
    for part in ("settings", "all_settings"):
        facts[part] |= settings
    path.write_text(json.dumps(facts))
    return finished(folder)


@pytest.mark.parametrize("folder", RECORDED, ids=lambda path: path.name)
def test_the_command_on_record_gives_the_settings_on_record(folder: Path) -> None:
    run = finished(folder)
    module = importlib.import_module(f"analysis.{run.command}")
    words = shlex.split(run.call)
    assert words[:3] == ["python", "-m", f"analysis.{run.command}"]
    assert parse(module.Config, module.PRESETS, words[3:]) == run.config


@given(model=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"])))
def test_a_name_cannot_leave_its_place_in_the_command(model: str) -> None:
    run = finished(FRONTIER)
    settings = {"model": model, "x; rm -rf ~": 1}
    hostile = type("Hostile", (Run,), {"settings": settings})(run.path, run.command, run.config, run.frame)
    words = shlex.split(hostile.call)
    assert words[3:] in (["--model", model], [f"--model={model}"]) and len(words) <= 5
    assert not model.startswith("-") or words[-1] == f"--model={model}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_story(command: str) -> None:
    module = importlib.import_module(f"analysis.{command}")
    for config in (
        *getattr(module, "PRESETS", {"default": module.Config()}).values(),
        module.Config(smoke=True),
    ):
        done = module.STORY.done(config)
        assert done and all(line.endswith(".") and "  " not in line for line in done)
        assert any("quick pass" in line for line in done) == config.smoke
    assert module.STORY.question.endswith("?") and all(line.endswith(".") for line in module.STORY.limits)
    if "seeds" in {field.name for field in dataclasses.fields(module.Config)}:
        assert "one seed" in module.STORY.caveats(module.Config(seeds=1))[0]
        assert "one seed" not in module.STORY.caveats(module.Config(seeds=3))[0]


@pytest.mark.parametrize("name", ["config.json", "environment.json", "results.csv"])
def test_files_that_lie_elsewhere_are_not_read(copy: Path, name: str, tmp_path: Path) -> None:
    (copy / name).rename(tmp_path / name)
    (copy / name).symlink_to(tmp_path / name)
    with pytest.raises(InputError, match=r"leads out of the run folder|plain"):
        finished(copy)


def test_a_network_that_is_named_is_not_imported(copy: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    run = changed(copy, model="evil:make", output="/etc/passwd")
    run.summary(), run.headline(), run.plot(), run.done()
    assert "evil:make" in run.call


@pytest.mark.parametrize(
    "results", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00,\n", b"seed,method\n<script>,x\n", b'"open\n1,2\n'],
    ids=["empty", "other columns", "no text", "text for numbers", "open quote"],
)  # fmt: skip
def test_rows_of_something_else_are_refused_in_one_line(copy: Path, results: bytes) -> None:
    (copy / "results.csv").write_bytes(results)
    (copy / "checksums.json").unlink(missing_ok=True)
    with pytest.raises(InputError) as error:
        finished(copy).summary()
    assert str(copy) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{"densities": "many"}, {"prune_epochs": None}, {"seeds": []}])
def test_settings_of_another_kind_are_refused_in_one_line(copy: Path, settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"config\.json is damaged: its \w+ cannot be"):
        changed(copy, **settings)


@pytest.mark.parametrize("missing", ["settings", "all_settings"])
def test_a_record_without_settings_is_damaged(copy: Path, missing: str) -> None:
    facts = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(facts | {missing: ["x"]}))
    with pytest.raises(InputError, match="damaged"):
        finished(copy)
