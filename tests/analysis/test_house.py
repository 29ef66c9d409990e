"""The rooms of analysis: no circles, no upward imports, groups of settings, old names for one release."""

import dataclasses
import importlib
import runpy
import warnings
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


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_config_is_groups_and_at_most_twelve_fields_of_its_own(name: str) -> None:
    config = importlib.import_module(f"analysis.{name}").Config
    groups = settings_groups(config)
    shared = {field for kind, fields in groups.items() if kind is not config for field in fields}
    own = [field for field in config.__annotations__ if field not in shared]
    assert len(own) <= 12, own
    assert {field.name for field in dataclasses.fields(config)} == shared | set(groups[config])


@pytest.mark.parametrize("name", MOVED)
def test_old_names_of_modules_lead_to_those_of_today(name: str) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert importlib.import_module(name) is importlib.import_module(MOVED[name])
    assert seen == [] or MOVED[name] in str(seen[0].message)
