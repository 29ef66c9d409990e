"""Every command says what it does before it loads what takes seconds to load."""

import subprocess
import sys

import pytest

from analysis.__main__ import commands

CODE = """
import importlib, os, sys
class First:
    encoding = "utf-8"
    def write(self, text):
        heavy = sorted({"torch", "pandas", "matplotlib", "sklearn", "torchvision"} & sys.modules.keys())
        os.write(1, f"{text} | {heavy}".encode())
        os._exit(0)
    def flush(self): ...
    def isatty(self): return False
sys.stdout = First()
importlib.import_module("analysis." + sys.argv[1]).main([])
"""


@pytest.mark.parametrize("name", commands())
def test_the_first_line_comes_before_anything_heavy(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, name], capture_output=True, text=True, timeout=60, check=True
    )
    line, _, heavy = done.stdout.partition(" | ")
    assert line.startswith(f"{name}: ") and len(line) > len(name) + 12
    assert heavy == "[]", line
