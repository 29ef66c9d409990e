"""The rooms: imports run one way, nothing shadows our package, help answers at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import compression

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "capacity": {"capacity"},
    "compression": {"capacity", "compression"},
    "analysis": {"capacity", "compression", "analysis"},
}


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_one_way(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            rooms = {module.split(".")[0] for module in modules if module} & ALLOWED.keys()
            assert rooms <= ALLOWED[room], f"{path} imports {rooms - ALLOWED[room]}"


def test_top_level_is_fixed() -> None:
    allowed = {"pyproject.toml", "README.md", "capacity", "compression", "analysis", "paper", "tests"}
    allowed |= {"LICENSE", "CITATION.cff"}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= allowed


def test_compression_is_ours_and_light() -> None:
    assert Path(compression.__file__).parent == ROOT / "compression"
    code = "import sys, compression; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_functions_are_short_and_take_few_arguments() -> None:
    """At most 40 lines without the docstring, and six arguments besides `self`."""
    long, many = set(), set()
    for path in (path for room in ALLOWED for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                name = f"{path.relative_to(ROOT).as_posix()} {node.name}"
                text = node.body[0] if ast.get_docstring(node) else None
                lines = node.end_lineno - node.lineno + 1
                if lines - (text.end_lineno - text.lineno + 1 if text else 0) > 40:
                    long.add(name)
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([argument for argument in arguments if argument.arg not in ("self", "cls")]) > 6:
                    many.add(name)
    assert (long, many) == (set(), set())


def test_no_test_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_importing_capacity_loads_nothing_heavy_but_torch() -> None:
    code = (
        "import sys, capacity\n"
        "heavy = {'pandas', 'scipy', 'sklearn', 'torchvision', 'seaborn', 'matplotlib', 'rich'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["capacity_curve", "speed"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['{command}', '--help']\n"
        f"try: runpy.run_module('analysis.{command}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torchvision', 'seaborn', 'sklearn', 'pandas', 'matplotlib'}\n"
        "print('LOADED', sorted(heavy & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage" in found.stdout and "LOADED []" in found.stdout


def test_the_list_of_commands() -> None:
    found = subprocess.run([sys.executable, "-m", "analysis"], capture_output=True, text=True, check=True)
    assert "python -m analysis.capacity_curve" in found.stdout
    folder = ROOT / "analysis"
    files = [path.stem for path in folder.glob("[!_]*.py") if "def main(" in path.read_text(encoding="utf-8")]
    packages = [path.parent.name for path in folder.glob("*/__main__.py")]
    assert {f"analysis.{name}" for name in (*files, *packages)} <= set(found.stdout.split())
