"""Run folders from elsewhere: what they name outside is not followed, what they hold is of its kind."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.capacity_curve import Config
from analysis.lab.runs.loading import finished, runs_below
from analysis.lab.runs.trust import inside, require_trusted, settings_from, ways_out
from analysis.questionnaire import main as questionnaire
from analysis.reproduce.admitted import recorded
from analysis.reproduce.article import MANIFEST, full_runs, record, remove_written
from analysis.reproduce.trained import TRAINED, trained_lines
from capacity.errors import InputError
from compression.checkpoints import save_json

RUNS = Path(__file__).parents[2] / "paper" / "runs"


def copied(folder: Path, name: str = "frontier-lenet5") -> Path:
    """A recorded run in a folder of its own."""
    return Path(shutil.copytree(RUNS / name, folder))


def changed(folder: Path, **settings: object) -> Path:
    """The run with other settings on record."""
    path = folder / "config.json"
    facts = json.loads(path.read_text())
    for part in ("settings", "all_settings"):
        facts[part] |= settings
    facts.pop("sha256_of_the_rest", None)
    path.write_text(json.dumps(facts))
    return folder


@pytest.mark.parametrize(
    ("setting", "value"),
    [("model", "evil:make"), ("model", "venv.__main__:x"), ("model", "hf:/etc/passwd"),
     ("dataset", "imagefolder:/home"), ("dataset", "table:/etc/passwd"), ("dataset", "text:x.csv"),
     ("tokenizer", "/etc/passwd")],
)  # fmt: skip
def test_what_leads_out_is_refused_until_it_is_named(setting: str, value: str) -> None:
    config = Config(**{setting: value})
    assert ways_out(config, Config()) == {setting: value}
    with pytest.raises(InputError, match="unless you trust it: --trust"):
        require_trusted(config, ["another"], Path("run"))
    require_trusted(config, [value], Path("run"))


def test_what_stays_inside_needs_no_trust() -> None:
    for model in ("mlp", "torchvision:resnet18", "timm:resnet18"):
        assert ways_out(Config(model=model, data="elsewhere"), Config()) == {}
    assert ways_out(Config(dataset="mnist", data="/mnt"), Config()) == {"data": "/mnt"}


def test_a_factory_of_a_received_run_is_not_imported(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {"model": "evil:make", "layers": []}
    save_json(folder / "config.json", {"command": "capacity_curve", "settings": settings,
                                       "all_settings": settings})  # fmt: skip
    (folder / "results.csv").write_text("seed,step\n0,0\n")
    with pytest.raises(SystemExit) as ending:
        questionnaire([str(folder)])
    assert ending.value.code == 2 and "--trust evil:make" in capsys.readouterr().err
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(SystemExit):  # named, it is imported
        questionnaire([str(folder), "--trust", "evil:make"])
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "settings",
    [{"seeds": "3"}, {"seeds": None}, {"seeds": True}, {"seeds": -1}, {"seeds": [3]}, {"layers": "all"},
     {"layers": [1]}, {"criterion": ["l3"]}, {"model": 3}, {"model": "a\nb"}, {"model": "\x1b]0;x"},
     {"model": "x" * 5000}, {"amount": float("nan")}, {"preset": "none"}, {"layers": {"a": 1}}],
)  # fmt: skip
def test_settings_of_another_kind_are_damaged(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(InputError, match=rf"config\.json is damaged: (its )?{name}"):
        settings_from(Config, settings, Path("config.json"))


def test_settings_that_are_not_known_are_left_out() -> None:
    assert settings_from(Config, {"seeds": 2, "amount": 3, "x": [[]]}, Path("c")) == Config(seeds=2, amount=3)


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "round").symlink_to("round")
    (folder / "here").symlink_to("there")
    (folder / "seed-0").symlink_to(tmp_path)
    assert inside(folder, "here").name == "here" and inside(folder, "new").name == "new"
    for name in ("out", "../secret", "/etc/passwd", "seed-0/trained.safetensors", "round", "a\0b"):
        with pytest.raises(InputError, match=r"leads out|cannot be followed"):
            inside(folder, name)


@pytest.mark.parametrize(
    "text", ["[1,2]", "null", "[" * 100_000, "{}", '{"command": ["x"]}', '{"command": {}}']
)
def test_settings_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    folder = copied(tmp_path / "run")
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config.json is damaged|holds a run of"):
        finished(folder)


@pytest.mark.parametrize("rows", [b"", b"a,b\n1,2,3\n1\n", b"a\n\x1b[2J\n", b'"a\nb"\n1\n', b"\x00\x00"])
def test_tables_that_are_none_are_refused_in_one_line(tmp_path: Path, rows: bytes) -> None:
    folder = copied(tmp_path / "run")
    (folder / "results.csv").write_bytes(rows)
    with pytest.raises(InputError) as error:
        finished(folder).summary()
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_bad_folder_never_stops_the_others(tmp_path: Path) -> None:
    good = trained_lines(recorded([RUNS]))
    for name in ("students-mnist", "frontier-lenet5", "six-layer"):
        shutil.copytree(RUNS / name, tmp_path / name)
    for number, command in enumerate(("students-mnist", "frontier-lenet5", "six-layer")):
        bad = copied(tmp_path / f"a{number}", command)  # before the good ones, in the order of names
        rows = (bad / "results.csv").read_text().splitlines(keepends=True)
        (bad / "results.csv").write_text("".join(rows[:1] + rows[2:4]) if number else rows[0] + "x,y\n")
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "config.json")
    (tmp_path / "b" / "results.csv").touch()
    (copied(tmp_path / "c") / "config.json").write_text("null")
    told: list[str] = []
    runs = recorded([tmp_path, *([RUNS] if RUNS.exists() else [])], told.append)
    named = {Path(line.split()[0]).relative_to(tmp_path).parts[0] for line in told}
    assert named == {"a0", "b", "c"} and len(told) == 3 and all("\n" not in line for line in told)
    names = {run.path.name for run in runs_below(tmp_path)}
    assert names >= {"students-mnist", "frontier-lenet5", "six-layer"}
    full = full_runs(runs, told.append)
    shown = [full[name].path for name in ("students-mnist", "frontier-lenet5", "six-layer")]
    assert shown == [tmp_path / path.name for path in shown] and len(told) > 3
    assert len(list(trained_lines(runs))) == len(list(good)) == len(TRAINED)


@pytest.mark.parametrize("setting", ["preset", "model"])
def test_a_name_on_record_is_no_path(tmp_path: Path, setting: str) -> None:
    folder = copied(tmp_path / "received", "sizing")
    facts = json.loads((folder / "config.json").read_text())
    facts["settings"][setting] = "../../../escaped"
    facts.pop("sha256_of_the_rest", None)
    (folder / "config.json").write_text(json.dumps(facts))
    try:
        path = record(folder, tmp_path / "paper" / "runs")
    except InputError as error:
        assert setting in str(error)
        return
    assert path.resolve().parent == (tmp_path / "paper" / "runs").resolve()


def test_only_what_was_written_is_removed(tmp_path: Path) -> None:
    for name in ("numbers.tex", "mine.tex"):
        (tmp_path / name).write_text("text")
    (tmp_path.parent / "outside.tex").write_text("text")
    remove_written(tmp_path)  # without a manifest nothing is
    save_json(tmp_path / MANIFEST, {"written": ["numbers.tex", "../outside.tex", 3, "gone.tex"]})
    remove_written(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.tex", MANIFEST}
    assert (tmp_path.parent / "outside.tex").exists()
