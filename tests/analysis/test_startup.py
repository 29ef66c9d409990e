"""What a command loads: for help nothing heavy, for a run nothing that it does not use."""

import json

import pytest
from running import run_python

from analysis.__main__ import commands

HEAVY = {"torch", "numpy", "scipy", "pandas", "sklearn", "matplotlib", "seaborn", "accelerate", "torchvision"}
UNUSED = {
    "torchao", "torch_pruning", "onnx", "onnxruntime", "onnxscript", "distributed", "dask", "nbformat",
    "constriction",
}  # fmt: skip
LOADED = "import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
HELP = """
import contextlib, io
from analysis.__main__ import main
for name in {names}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
        main([name, "--help"])
    assert "usage" in out.getvalue(), name
"""


def loaded(code: str) -> set[str]:
    return set(json.loads(run_python(LOADED.format(code=code)).splitlines()[-1]))


def test_help_of_every_command_loads_nothing_heavy() -> None:
    assert not loaded(HELP.format(names=list(commands()))) & HEAVY


@pytest.mark.parametrize("package", ["capacity", "compression", "analysis"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert not loaded(f"import {package}") & HEAVY


def test_bad_settings_are_refused_before_anything_heavy_is_loaded() -> None:
    code = "from analysis.capacity_curve import main\ntry: main(['--seeds', '0'])\nexcept SystemExit: pass"
    assert not loaded(code) & HEAVY


def test_a_run_loads_nothing_that_it_does_not_use(tmp_path) -> None:
    call = ["--smoke", "--output", str(tmp_path / "run")]
    assert loaded(f"from analysis.capacity_curve import main\nmain({call})") & UNUSED == set()
