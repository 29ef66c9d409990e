"""What the guides for contributors say exists and runs; the drawing is that of today's imports."""

import doctest
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from running import run_command

from analysis.__main__ import commands

ROOT = Path(__file__).parents[1]
GUIDES = (".github/CONTRIBUTING.md", ".github/ARCHITECTURE.md")
TEMPLATES = ("bug", "feature", "question")
SCRIPTS = ("rooms", "reference")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = {
    "capacity": "RULES InputError LayerRule",
    "capacity.layers": "normalization",
    "compression.criteria": "Sampler",
    "compression.identity": "describe compare",
    "compression.checkpoints": "settle",
    "compression.recipes": "Technique",
    "analysis.lab.criteria": "CRITERIA LABELS criterion_of",
    "analysis.lab.settings": "PruneSettings.criterion DataSettings.dataset NOT_IDENTITY",
    "analysis.lab.experiment": "Experiment",
    "analysis.lab.runner": "Runner.score",
    "analysis.lab.runs.cache": "cached_model",
    "analysis.lab.runs.loading": "COMMANDS",
    "analysis.lab.measurement.deployment": "METRICS measure_deployment",
    "analysis.lab.reporting.columns": "COLUMNS",
    "analysis.lab.data.datasets": "TORCHVISION NAMES load",
    "analysis.lab.models.registry": "MODELS",
    "analysis.comparison.techniques": "MAKERS",
    "analysis.comparison.config": "ALL Technique",
    "analysis.capacity_curve.config": "Config PRESETS check smoke",
    "analysis.capacity_curve.report": "summary table headline plot",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(text_of(page)) if found == language]


def shell_calls(page: str) -> list[list[str]]:
    """The words of each command in code, without comments."""
    lines = [line.partition(" #")[0] for code in blocks(page, "sh") for line in code.splitlines()]
    return [shlex.split(call) for line in lines for call in line.split("&&") if call.strip()]


def script(name: str) -> Any:
    """A module of .github, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".github" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loaded(path: str) -> Any:
    """A YAML file's content."""
    return pytest.importorskip("yaml").safe_load(text_of(path))


def resolved(name: str) -> None:
    """Import the longest part of a dotted name that is a module, and look up the rest."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return
    raise ModuleNotFoundError(name)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", GUIDES)
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    assert len(targets) >= 2
    for target in targets:
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", GUIDES)
def test_files_that_are_named_exist(page: str) -> None:
    named = set(re.findall(r"`((?:capacity|compression|analysis|tests|\.\w+)/[\w./-]+)`", text_of(page)))
    assert len(named) >= 8
    for path in named:
        assert (ROOT / path).exists(), path


def test_files_in_the_table_of_rooms_exist() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \| .* \| (.*) \|$", text_of(".github/ARCHITECTURE.md"), re.MULTILINE)
    assert [room for room, _ in rows] == ["capacity", "compression", "analysis", "analysis/lab"]
    for room, start in rows:
        for name in re.findall(r"`([\w.]+)`", start):
            assert (ROOT / room / name).exists(), f"{room}/{name}"


def test_every_shelf_is_described() -> None:
    table = text_of(".github/ARCHITECTURE.md").partition("The shelves of `lab`")[2].partition("An arrow")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    described = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    shelves = {path.stem for path in (ROOT / "analysis/lab").glob("[!_]*") if path.suffix in ("", ".py")}
    assert described == shelves


@pytest.mark.parametrize("page", GUIDES)
def test_code_that_is_named_in_sentences_exists(page: str) -> None:
    prose = BLOCK.sub("", text_of(page))
    for name in re.findall(r"`((?:capacity|compression|analysis)\.[\w.]+)`", prose):
        if not name.endswith(".py"):
            resolved(name)


def test_names_in_the_guide_are_those_of_the_code() -> None:
    for module, names in NAMED.items():
        for name in names.split():
            assert f"`{name}`" in text_of(GUIDES[0]) or f"`{name}(" in text_of(GUIDES[0]), name
            resolved(f"{module}.{name}")


@pytest.mark.parametrize("place", range(3))
def test_examples_run(place: int) -> None:
    examples = blocks(".github/CONTRIBUTING.md", "python")
    assert len(examples) == 3
    module = ModuleType("example")
    sys.modules["example"] = module
    try:
        exec(compile(examples[place], "CONTRIBUTING.md", "exec"), module.__dict__)
    finally:
        del sys.modules["example"]


def test_commands_that_are_named_exist() -> None:
    calls = shell_calls(".github/CONTRIBUTING.md")
    installed = {"pytest", "ruff", "mypy", "pip"}
    requirements = {re.split(r"\W", line)[0] for line in PROJECT["optional-dependencies"]["dev"]}
    assert installed - {"pip"} <= requirements and "pre" in requirements
    for words in calls:
        assert words[0] in installed | {"python", "python3", "cp", "perl", "."}, words
        if words[:2] == ["python", "-m"] and words[2] != "analysis":
            assert words[2].removeprefix("analysis.") in {*commands(), "my_curve"}, words
        for word in words[1:]:
            if word.endswith(".py") and "*" not in word:
                assert (ROOT / word).is_file(), word
            if extra := re.fullmatch(r"\.\[(\w+)\]", word):
                assert extra[1] in PROJECT["optional-dependencies"], word
    assert ["pip", "install", "-e", ".[docs]"] in calls


def test_a_copied_experiment_runs(tmp_path: Path) -> None:
    for package in ("capacity", "compression", "analysis"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (code,) = [code for code in blocks(".github/CONTRIBUTING.md", "sh") if code.startswith("cp ")]
    if shutil.which("sh") is None or shutil.which("perl") is None:
        pytest.skip("needs sh and perl")
    lines = code.splitlines()
    calls = [line for line in lines if line.startswith("python ")]
    assert calls == lines[-2:] == ["python -m analysis.my_curve --smoke", "python -m analysis"]
    subprocess.run(["sh", "-e", "-c", "\n".join(lines[:-2])], cwd=tmp_path, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    options = {"cwd": tmp_path, "env": environment, "encoding": "utf-8"}
    done = run_command("my_curve", "--smoke", **options)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("runs/my_curve-digits-mlp-*")
    assert {"results.csv", "summary.csv", "my_curve.pdf"} <= {path.name for path in run.iterdir()}
    listed = subprocess.run([sys.executable, "-m", "analysis"], capture_output=True, **options).stdout
    assert "  python -m analysis.my_curve\n" in listed


def test_the_drawing_is_that_of_the_imports() -> None:
    rooms = script("rooms")
    assert blocks(".github/ARCHITECTURE.md", "mermaid") == [rooms.drawing(rooms.rooms(rooms.imports()))], (
        "python .github/rooms.py --write renews it"
    )


def test_arrows_lead_where_imports_lead() -> None:
    rooms = script("rooms")
    graph = rooms.rooms(rooms.imports())
    arrows = rooms.reduced(graph)

    def reached(room: str, by: dict[str, set[str]]) -> set[str]:
        return by[room].union(*(reached(other, by) for other in by[room]))

    for room in graph:
        assert reached(room, arrows) == reached(room, graph)
        for other in arrows[room]:  # and none can be spared
            assert all(other not in reached(way, graph) for way in arrows[room])
    assert arrows["compression"] == {"capacity"} and arrows["capacity"] == set()
    assert {"capacity_curve", "speed", "lab.runs"} <= graph.keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_doctests_of_scripts(name: str) -> None:
    result = doctest.testmod(script(name))
    assert result.failed == 0 and result.attempted >= 1


def test_the_reference_names_every_public_module() -> None:
    names = script("reference").modules()
    assert len(names) == len(set(names)) and names[:2] == ["analysis", "analysis.adequate_size"]
    assert {"capacity.measuring", "compression.squeezing", "analysis.lab.runs.directory"} <= set(names)
    assert not any(part.startswith("_") for name in names for part in name.split("."))


def test_the_reference_shows_parameters(tmp_path: Path) -> None:
    pytest.importorskip("pdoc", reason="the extra [docs] is not installed")
    script("reference").write(tmp_path, ["capacity.rules"])
    page = (tmp_path / "capacity" / "rules.html").read_text(encoding="utf-8")
    assert "<li><strong>units</strong>: units of each layer, first to last</li>" in page


def test_the_reference_is_not_committed() -> None:
    found = subprocess.run(
        ["git", "check-ignore", "build/reference/index.html"], cwd=ROOT, capture_output=True, text=True
    )
    if found.returncode == 128:
        pytest.skip("not a git checkout")
    assert found.stdout.strip() == "build/reference/index.html"


def test_hooks_are_those_of_the_project() -> None:
    (repository,) = loaded(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["id"] for hook in repository["hooks"]] == ["ruff-check", "ruff-format", "mypy", "rooms"]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_the_workflow_calls_ci_run() -> None:
    steps = loaded(".github/workflows/ci.yml")["jobs"]["run"]["steps"]
    assert steps[-1] == {"run": ".ci/run"} and os.access(ROOT / ".ci/run", os.X_OK)
    wanted = set(re.findall(r"\b(?:latexmk|lmodern|texlive-[\w-]+)", text_of(".ci/run")))
    assert len(wanted) == 6
    assert all(package in steps[-2]["run"] for package in wanted)
    (versions,) = [
        step["with"]["python-version"] for step in steps if "python-version" in step.get("with", {})
    ]
    newest, default = versions.split()
    classifiers = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: 3." in line]
    assert [default, newest] == [classifiers[0], classifiers[-1]]


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_of_issues(name: str) -> None:
    form = loaded(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"].lower() == name and form["description"]
    kinds = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert {part["type"] for part in form["body"]} <= kinds
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    assert form["body"][0]["validations"]["required"] and all(
        part["attributes"]["label"] for part in form["body"]
    )
