"""Every command says what it does before it loads what takes seconds to load."""

import json

import pytest
from running import run_python

from analysis.__main__ import commands

CODE = """
import importlib, json, sys
class Said(BaseException): ...
class First:
    encoding = "utf-8"
    def write(self, text):
        raise Said(text)
    def flush(self): ...
    def isatty(self): return False
out, heavy, found = sys.stdout, {{"torch", "pandas", "matplotlib", "sklearn", "torchvision"}}, {{}}
sys.stdout = First()
for name in {names}:
    try:
        importlib.import_module("analysis." + name).main([])
    except Said as said:
        found[name] = (str(said), sorted(heavy & sys.modules.keys()))
json.dump(found, out)
"""


@pytest.fixture(scope="module")
def openings() -> dict[str, tuple[str, list[str]]]:
    """The first line of each command and what is loaded then, with all commands before it in one process."""
    found: dict[str, tuple[str, list[str]]] = json.loads(run_python(CODE.format(names=commands())))
    return found


@pytest.mark.parametrize("name", commands())
def test_the_first_line_comes_before_anything_heavy(name: str, openings) -> None:
    line, heavy = openings[name]
    assert line.startswith(f"{name}: ") and len(line) > len(name) + 12
    assert heavy == [], line
