"""Run folders: resumable with the same settings, never mixed."""

import dataclasses
import json
import os
import shutil
import sys

import pandas as pd
import pytest

from analysis.lab.runs.directory import open_run, settings_of
from analysis.lab.runs.provenance import commit_of, environment, lineage
from capacity import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    amount: int | float = 0.3
    layers: tuple[str, ...] = ()
    data: str = "data"
    output: str = ""
    fresh: bool = False


def test_only_settings_that_differ_from_the_defaults_identify_a_run() -> None:
    assert settings_of(Config()) == {}
    assert settings_of(Config(amount=3, layers=("a",), data="elsewhere", output="x")) == {
        "amount": 3,
        "layers": ["a"],
    }


def test_a_run_is_reopened_and_another_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = open_run("command", Config(), name="digits-mlp")
    assert run.path.parts[:1] == ("runs",) and run.path.name.startswith("command-digits-mlp-")
    assert open_run("command", Config(data="moved"), name="digits-mlp").path == run.path
    assert open_run("command", Config(amount=1), name="digits-mlp").path != run.path
    with pytest.raises(InputError, match="holds another run"):
        open_run("command", Config(amount=1, output=str(run.path)), name="digits-mlp")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no run"):
        open_run("command", Config(output="notes"), name="x")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", ["seed-0", "seed-0/l1", "writer.lock", "config.json"])
def test_a_link_out_of_the_folder_is_refused_and_what_it_leads_to_left_alone(
    tmp_path, name: str, fresh: bool
) -> None:
    mine = tmp_path / "mine"
    (mine / "below").mkdir(parents=True)
    for path in (mine / "a.json", mine / "below" / "b.json"):
        path.write_text("{}")
    config = Config(output=str(tmp_path / "run"))
    path = open_run("command", config, name="x").path / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(mine / "a.json" if path.suffix else mine)
    with pytest.raises(InputError, match="is a link that leads out of the output folder"):
        open_run("command", dataclasses.replace(config, fresh=fresh), name="x")
    assert sorted(path.name for path in mine.rglob("*")) == ["a.json", "b.json", "below"]
    assert (mine / "a.json").read_text() == "{}"


def test_a_run_folder_may_be_a_link_itself_and_hold_links_inside(tmp_path) -> None:
    (tmp_path / "disk" / "seed-1").mkdir(parents=True)
    (tmp_path / "disk" / "seed-0").symlink_to("seed-1")
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "config.json").write_text('{"command": "command", "all_settings": {}}')
    assert open_run("command", Config(output=str(tmp_path / "run")), name="x").path == tmp_path / "run"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("config.json", '{"command": "command", "all_settings": []}', "holds another run: one without"),
        ("config.json", '{"command": "\\u001b[2J"}', r"one of '\\x1b\[2J'"),
        ("config.json", '{"command": ["a"]}', "holds another run: one of"),
        ("config.json", '{"command": "command", "all_settings": {"amount": "\\u202e"}}', r"amount '\\u202e'"),
        ("environment.json", '{"resumed": [{"environment": 5}]}', ""),
        ("environment.json", '{"resumed": [5], "platform": "\\u001b[2J"}', ""),
    ],
)
def test_a_folder_from_elsewhere_is_refused_in_one_line(tmp_path, capsys, name, text, told) -> None:
    config = Config(output=str(tmp_path / "run"))
    path = open_run("command", config, name="x").path
    (path / "seed-0").mkdir()
    (path / "seed-0" / "step.json").write_text("{}")
    (path / name).write_text(text)
    if told:
        with pytest.raises(InputError, match=told) as found:
            open_run("command", config, name="x")
        assert str(found.value).isprintable()
    else:
        open_run("command", config, name="x")
        assert capsys.readouterr().out.strip().replace("\n", " ").isprintable()


def test_what_a_run_records(tmp_path) -> None:
    run = open_run("command", Config(amount=2, output=str(tmp_path / "r")), name="x")
    config = json.loads((run.path / "config.json").read_text())
    assert config["settings"] == {"amount": 2} and config["all_settings"]["layers"] == []
    facts = json.loads((run.path / "environment.json").read_text())
    assert facts.keys() == environment().keys() >= {"python", "device", "threads", "commit", "packages"}
    frame = pd.DataFrame({"x": [0.1 + 0.2, 1e-17]})
    assert pd.read_csv(run.save_frame(frame), float_precision="round_trip").equals(frame)


def test_what_a_message_advises_works(tmp_path) -> None:
    config = Config(output=str(tmp_path / "run"))
    path = open_run("command", config, name="x").path
    (path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"damaged.*choose another --output or remove the folder"):
        open_run("command", config, name="x")
    shutil.rmtree(path)
    open_run("command", config, name="x")
    other = dataclasses.replace(config, amount=2)
    with pytest.raises(
        InputError, match=r"amount 0\.3 and not 2; choose another --output or start over with"
    ):
        open_run("command", other, name="x")
    assert open_run("command", dataclasses.replace(other, fresh=True), name="x").path == path
    open_run("command", other, name="x")
    shutil.rmtree(path)
    path.mkdir()
    (path / "mine.txt").write_text("text")
    with pytest.raises(InputError, match="choose another --output or empty it"):
        open_run("command", config, name="x")
    (path / "mine.txt").unlink()
    assert open_run("command", config, name="x").path == path


def test_whatever_a_killed_start_leaves_can_be_resumed(tmp_path) -> None:
    config = Config(output=str(tmp_path / "run"))
    for names in (
        ["environment.json"],
        ["writer.lock"],
        ["inputs.json", "environment.json"],
        ["config.json"],
    ):
        path = open_run("command", config, name="x").path
        (path / "inputs.json").write_text("{}")
        (path / ".config.json.abcd1234.part").mkdir()
        for entry in path.iterdir():
            if entry.is_file() and entry.name not in names:
                entry.unlink()
        assert open_run("command", config, name="x").path == path
        assert {"config.json", "environment.json"} <= {entry.name for entry in path.iterdir()}
        assert not list(path.glob(".*"))
        shutil.rmtree(path)


def test_a_killed_fresh_start_leaves_the_run_that_it_was(tmp_path) -> None:
    config = Config(output=str(tmp_path / "run"))
    run = open_run("command", config, name="x")
    run.settle(lambda: {"data": "'old'"})
    for seed in range(2):
        (run.path / f"seed-{seed}").mkdir()
        for ending in ("json", "safetensors"):
            (run.path / f"seed-{seed}" / f"step.{ending}").write_text("x")
    if (child := os.fork()) == 0:
        sys.addaudithook(lambda event, _: os._exit(1) if event == "shutil.rmtree" else None)
        run.start_over()
    os.waitpid(child, 0)
    assert not list(run.path.glob("seed-*/*.json"))  # no fact without its weights
    with pytest.raises(InputError, match="another data"):
        run.settle(lambda: {"data": "'new'"})
    run.start_over()
    run.settle(lambda: {"data": "'new'"})
    assert {entry.name for entry in run.path.iterdir()} == {"inputs.json", "writer.lock"}


def test_a_table_that_was_changed_is_refused(tmp_path) -> None:
    run = open_run("command", Config(output=str(tmp_path / "r")), name="x")
    path = run.save_frame(pd.DataFrame({"x": [0.5]}))
    assert run.require_unchanged() == path
    path.write_text("x\n0.25\n")
    with pytest.raises(InputError, match=r"results.csv is not as it was written.*run its command again"):
        run.require_unchanged()
    run.save_frame(pd.DataFrame({"x": [0.5]}))
    run.require_unchanged()


def test_a_run_that_mixes_two_environments_says_so(tmp_path, capsys) -> None:
    config = Config(output=str(tmp_path / "r"))
    run = open_run("command", config, name="x")
    record = run.path / "environment.json"
    before = json.loads(record.read_text())
    record.write_text(json.dumps(before | {"threads": 99}))
    open_run("command", config, name="x")  # no step yet: nothing is mixed
    assert json.loads(record.read_text()) == before and capsys.readouterr().out == ""
    (run.path / "seed-0").mkdir()
    (run.path / "seed-0" / "step-1.json").write_text("{}")
    record.write_text(json.dumps(before | {"threads": 99}))
    open_run("command", config, name="x")
    assert "with threads 99 and now" in capsys.readouterr().out
    (entry,) = json.loads(record.read_text())["resumed"]
    assert entry["finished_before"] == ["seed-0/step-1.json"] and entry["environment"] == before
    open_run("command", config, name="x")  # the same again: said once
    assert capsys.readouterr().out == "" and len(json.loads(record.read_text())["resumed"]) == 1


def test_the_data_are_on_record(tmp_path) -> None:
    run = open_run("command", Config(output=str(tmp_path / "r")), name="x")
    run.settle(lambda: {"data": "'one'"})
    first = json.loads((run.path / "environment.json").read_text())["inputs"]
    with pytest.raises(InputError, match="another data"):
        run.settle(lambda: {"data": "'two'"})
    assert json.loads((run.path / "environment.json").read_text())["inputs"] == first


def test_a_commit_is_ours_only_where_our_files_are_tracked(tmp_path) -> None:
    import subprocess

    def git(*words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    assert commit_of(tmp_path) == (None, None)
    git("init")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").write_text("")
    (tmp_path / "other").write_text("")
    git("add", "other")
    git("commit", "-m", "another's")
    assert commit_of(tmp_path) == (None, None)  # installed into another's repository
    git("add", "analysis")
    git("commit", "-m", "ours")
    commit, changed = commit_of(tmp_path)
    assert commit is not None and len(commit) == 40 and changed is False
    assert lineage(commit, tmp_path) == commit and lineage(commit, tmp_path.parent) == commit
    git("commit", "--amend", "--allow-empty", "-m", "written anew")
    assert lineage(commit, tmp_path) == f"{commit}, which is not in this history"
    assert lineage(None, tmp_path) == lineage("--help", tmp_path) == "unknown"
    commit, changed = commit_of(tmp_path)
    (tmp_path / "analysis" / "__init__.py").write_text("changed")
    assert commit_of(tmp_path) == (commit, True)
