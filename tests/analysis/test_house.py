"""The rooms of analysis: no circles, no upward imports, groups of settings, old names for one release."""

import ast
import dataclasses
import importlib
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import analysis._moved
import compression._moved
from analysis.lab.cli import settings_groups

MOVED = analysis._moved.MOVED | compression._moved.MOVED
ROOT = Path(__file__).parent.parent.parent
imports = runpy.run_path(str(ROOT / ".github" / "rooms.py"))["imports"]
EXPERIMENTS = ["comparison", *sorted(path.parent.name for path in ROOT.glob("analysis/*/trials.py"))]


def test_no_import_runs_in_a_circle() -> None:
    graph = imports()
    done: set[str] = set()

    def walk(name: str, above: list[str]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                walk(other, [*above, name])
            done.add(name)

    for name in graph:
        walk(name, [])


def test_shelves_know_no_experiment() -> None:
    for name, wanted in imports().items():
        if name.startswith("analysis.lab"):
            assert {other for other in wanted if other.startswith("analysis")} <= {
                other for other in wanted if other == "analysis" or other.startswith("analysis.lab")
            }, name


def code_lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of the lines of a module that are neither blank, imports, nor names that it exports."""
    text = path.read_text(encoding="utf-8")
    aside = set()
    for node in ast.walk(ast.parse(text)):
        exported = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if exported or isinstance(node, ast.Import | ast.ImportFrom):
            aside |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(map(str.split, text.splitlines()), 1)
    return [(number, " ".join(words)) for number, words in lines if words and number not in aside]


def repeated(paths: Iterable[Path], count: int) -> dict[str, list[str]]:
    """Blocks of so many equal lines that stand in several places, and where each begins."""
    places: dict[str, list[str]] = {}
    for path in paths:
        lines = code_lines(path)
        for start in range(len(lines) - count + 1):
            block = "\n".join(text for _, text in lines[start : start + count])
            places.setdefault(block, []).append(f"{path}:{lines[start][0]}")
    return {block: starts for block, starts in places.items() if len(starts) > 1}


def test_no_block_of_six_equal_lines_stands_twice(tmp_path: Path) -> None:
    rooms = ("capacity", "compression", "analysis", "paper", "tests", ".github")
    modules = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    assert repeated(modules, 6) == {}
    body = "".join(f"    x{place} = {place}\n" for place in range(6))
    (tmp_path / "one.py").write_text(f"import a\ndef one():\n{body}")
    (tmp_path / "other.py").write_text(f"import a\ndef other():\n\n{body}    import b\n")
    assert list(repeated(sorted(tmp_path.iterdir()), 6).values()) == [
        [f"{tmp_path / 'one.py'}:3", f"{tmp_path / 'other.py'}:4"]
    ]


VERB_FORMS = {"found", "kept", "home", "whole", "told", "advance"}  # which say nothing of what it is


def names_in(path: Path) -> set[str]:
    """Names that a module gives: of modules, functions, classes, parameters, attributes and variables."""
    names = {path.stem}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def test_names_are_nouns_of_what_they_hold(tmp_path: Path) -> None:
    modules = [
        path for room in ("capacity", "compression", "analysis") for path in (ROOT / room).rglob("*.py")
    ]
    wrong = {
        (path.name, name)
        for path in modules
        for name in names_in(path)
        if VERB_FORMS & set(name.lower().split("_"))
    }
    assert wrong == set()
    (tmp_path / "one.py").write_text("class Found:\n    def told(self, kept):\n        self.home = 1\n")
    assert names_in(tmp_path / "one.py") == {"one", "Found", "told", "self", "kept", "home"}


def test_a_config_is_groups_and_at_most_twelve_fields_of_its_own() -> None:
    """What a Config's body lists counts, defaults of a group that it sets anew included."""
    counts = {}
    for path in (ROOT / "analysis").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == "Config":
                counts[path.relative_to(ROOT).as_posix()] = sum(
                    isinstance(part, ast.AnnAssign) for part in node.body
                )
    assert {path: count for path, count in counts.items() if count > 12} == {}
    assert counts.keys() >= {f"analysis/{name}/config.py" for name in EXPERIMENTS}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_setting_stands_in_one_group(name: str) -> None:
    config = importlib.import_module(f"analysis.{name}").Config
    names = [field for fields in settings_groups(config).values() for field in fields]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(config))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_names_its_trials(name: str) -> None:
    experiment = getattr(importlib.import_module(f"analysis.{name}"), "EXPERIMENT", None)
    if experiment is not None and experiment.trials is not None:
        methods = vars(importlib.import_module(f"analysis.{name}.trials"))[experiment.trials].__dict__
        assert {"__init__", "trial"} <= methods.keys()


@pytest.mark.parametrize(
    ("module", "old", "today"),
    [(module, *names) for module, table in compression._moved.RENAMED.items() for names in table.items()],
)
def test_old_names_in_modules_warn_and_lead_to_those_of_today(module: str, old: str, today: str) -> None:
    module = MOVED.get(module, module)
    with pytest.warns(DeprecationWarning, match=f"{module}.{old} is now {module}.{today}"):
        kept = getattr(importlib.import_module(module), old)
    assert kept is getattr(importlib.import_module(module), today)
    assert compression._moved.first_name(kept.__module__, kept.__qualname__).endswith(f".{old}")
    if today in compression.__all__:
        with pytest.warns(DeprecationWarning, match=f"compression.{old} is now compression.{today}"):
            assert getattr(compression, old) is kept
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(importlib.import_module(module), "nothing")  # noqa: B009


@pytest.mark.parametrize("name", MOVED)
def test_old_names_of_modules_lead_to_those_of_today(name: str) -> None:
    sys.modules.pop(name, None)
    with pytest.warns(DeprecationWarning, match=f"{name} is now {MOVED[name]}"):
        assert importlib.import_module(name) is importlib.import_module(MOVED[name])
