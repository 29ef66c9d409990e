"""What users install: wheel and editable, start-up files, the command, names, types, and what goes wrong."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from running import run_script

import capacity
import compression
from analysis.__main__ import commands
from capacity import _startup

ROOT = Path(__file__).parent.parent
STARTUP = {"_deepcapacity_startup.py", "deepcapacity.pth", "deepcapacity.start"}
BUILD = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
STANDARD = "import bz2, gzip, lzma, tarfile\nassert gzip.decompress(gzip.compress(b'a')) == b'a'\n"
ZSTD = "from compression import bz2, zstd\nassert zstd.decompress(zstd.compress(b'a')) == b'a'\n"
OURS = "from compression import prune\nfrom compression.pruning import prune as same\nassert prune is same\n"
since_314 = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="the package is the standard library's since 3.14"
)


def python(
    *call: str, folder: Path | None = None, executable: str | Path = sys.executable, **environment: str
):
    return subprocess.run(
        [str(executable), *call],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def built(what: str, folder: Path, source: Path = ROOT) -> Path:
    """A wheel, an editable wheel or an sdist, made as pip makes it."""
    for needed in ("hatchling", "hatch_fancy_pypi_readme", "editables"):
        pytest.importorskip(needed, reason="the extra [dev] is not installed")
    found = python("-c", BUILD, f"build_{what}", str(folder), folder=source)
    assert found.returncode == 0, found.stderr
    return folder / found.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("editable", tmp_path_factory.mktemp("editable"))


def environment(folder: Path) -> Path:
    """A new environment's Python, which sees what is installed in this one, but no package of ours."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    executable = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    here = [path for path in sys.path if Path(path).name == "site-packages"]
    site_packages(executable).joinpath("aaa_here.pth").write_text("\n".join(here), encoding="utf-8")
    return executable


def site_packages(executable: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(python("-c", code, executable=executable).stdout.strip())


def pip(executable: Path, *words: str) -> None:
    found = python("-m", "pip", "--python", str(executable), *words)
    assert found.returncode == 0, found.stderr


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    executable = environment(tmp_path_factory.mktemp("installed"))
    pip(executable, "install", "-q", "--no-deps", "--no-index", str(wheel))
    return executable


def test_the_wheel_holds_packages_types_and_start_up_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert {name for name in names if "/" not in name} == STARTUP
        assert {name.split("/")[0] for name in names if name.endswith(".py")} - STARTUP == {
            "capacity", "compression", "analysis",
        }  # fmt: skip
        assert {f"{package}/py.typed" for package in ("capacity", "compression", "analysis")} <= set(names)
        copies = {archive.read(name) for name in ("_deepcapacity_startup.py", "capacity/_startup.py")}
        assert copies == {(ROOT / "capacity/_startup.py").read_bytes()}
        assert archive.read("deepcapacity.pth").decode().startswith("import _deepcapacity_startup;")
        assert archive.read("deepcapacity.start").decode().strip() == "_deepcapacity_startup:extend"


def test_the_editable_install_holds_the_start_up_files_and_the_way_here(editable: Path) -> None:
    with zipfile.ZipFile(editable) as archive:
        top = {name: archive.read(name).decode() for name in archive.namelist() if "/" not in name}
    assert top.keys() > STARTUP
    (way,) = top.keys() - STARTUP
    assert way < "deepcapacity.pth" and set(top[way].split("\n")) - {""} == {str(ROOT)}


def test_the_wheel_of_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(built("sdist", tmp_path)) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = built("wheel", tmp_path, source)
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("what", ["wheel", "editable"])
def test_uninstalling_leaves_nothing(what: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    archive = request.getfixturevalue(what)
    executable = environment(tmp_path / "environment")
    before = {*site_packages(executable).rglob("*"), *executable.parent.iterdir()}
    pip(executable, "install", "-q", "--no-deps", "--no-index", str(archive))
    assert {path.name for path in site_packages(executable).iterdir()} >= STARTUP
    pip(executable, "uninstall", "-q", "-y", "deepcapacity")
    left = {*site_packages(executable).rglob("*"), *executable.parent.iterdir()} - before
    assert {path for path in left if "__pycache__" not in path.parts} == set()


def test_start_up_does_nothing_below_314_and_loads_nothing(installed: Path) -> None:
    code = (
        "import sys\n"
        "loaded = {'compression', 'importlib.machinery', 'torch'} & sys.modules.keys()\n"
        "finders = [finder for finder in sys.meta_path if finder.__module__ == '_deepcapacity_startup']\n"
        "print('_deepcapacity_startup' in sys.modules, len(finders), sorted(loaded))"
    )
    found = python("-c", code, executable=installed, PYTHONPATH="")
    finders = int(sys.version_info >= (3, 14))
    assert found.stdout.split(" ", 2)[:2] == ["True", str(finders)]
    assert "compression" not in found.stdout and "torch" not in found.stdout and not found.stderr


@pytest.mark.parametrize(
    "harm",
    [
        "sys.path[:] = [None, 3, '/nowhere']",
        "sys.modules['compression'] = object()",
        "sys.meta_path[:] = []; sys.meta_path = None",
        "del os.__file__",
    ],
)
def test_start_up_never_raises(harm: str) -> None:
    code = f"import os, sys\nfrom capacity import _startup\n{harm}\n_startup.extend()"
    code += "\n_startup.Finder.find_spec('compression')\nprint('fine')"
    found = python("-c", code, PYTHONPATH=str(ROOT))
    assert found.stdout == "fine\n", found.stderr


def test_the_finder_has_no_say_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _startup.Finder.find_spec("gzip") is None
    (tmp_path / "compression").mkdir()
    (tmp_path / "compression/__init__.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert _startup.Finder.find_spec("compression") is None
    found = _startup.ours()
    assert found is not None and Path(str(found.origin)) == ROOT / "compression/__init__.py"


@since_314
@pytest.mark.parametrize("order", [(STANDARD, ZSTD, OURS), (OURS, ZSTD, STANDARD), (ZSTD, OURS, STANDARD)])
def test_both_packages_work_in_every_order(order: Sequence[str], installed: Path, tmp_path: Path) -> None:
    found = python("-c", "\n".join(order), executable=installed, folder=tmp_path, PYTHONPATH="")
    assert found.returncode == 0, found.stderr
    found = python("-c", "\n".join(order), folder=ROOT)
    assert found.returncode == 0, found.stderr


@since_314
def test_importing_capacity_is_enough_without_start_up_files(installed: Path) -> None:
    paths = [str(site_packages(installed)), *(p for p in sys.path if Path(p).name == "site-packages")]
    code = (
        f"import sys, gzip\nfrom compression import zstd\nsys.path += {paths}\nimport capacity\n{OURS}{ZSTD}"
    )
    found = python("-S", "-c", code, executable=installed, PYTHONPATH="")
    assert found.returncode == 0, found.stderr


def test_no_module_of_ours_has_a_name_of_the_standard_library() -> None:
    names = {path.stem for path in (ROOT / "compression").iterdir()}
    assert not names & {"_common", "bz2", "gzip", "lzma", "zlib", "zstd"}


@pytest.fixture
def own_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / request.param
    folder.mkdir()
    (folder / "__init__.py").write_text("", encoding="utf-8")
    return folder


@pytest.mark.parametrize("own_folder", ["capacity", "compression"], indirect=True)
def test_a_folder_that_shadows_ours_is_named_in_one_line(own_folder: Path, installed: Path) -> None:
    call = ("-m", "analysis.capacity_report")
    found = python(*call, executable=installed, folder=own_folder.parent, PYTHONPATH="")
    assert found.returncode == 2 and found.stderr.count("\n") == 1 and not found.stdout
    assert str(own_folder) in found.stderr and "deepcapacity NAME" in found.stderr


def test_the_command_works_beside_folders_of_the_same_names(installed: Path, tmp_path: Path) -> None:
    for name in ("analysis", "capacity", "compression"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("", encoding="utf-8")
    command = [installed.with_name("deepcapacity"), "capacity-report", "--output", str(tmp_path / "out")]
    found = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert found.returncode == 0 and "17,216" in found.stdout, found.stderr


@pytest.mark.parametrize("own_folder", ["compression"], indirect=True)
def test_a_script_beside_a_folder_of_that_name_is_told(own_folder: Path, installed: Path) -> None:
    script = own_folder.parent / "script.py"
    script.write_text("import compression\nprint(compression.__file__)\nimport capacity", encoding="utf-8")
    found = python(str(script), executable=installed, PYTHONPATH="")
    assert found.stdout.strip() == str(own_folder / "__init__.py")
    assert f"finds {own_folder} in place of DeepCapacity's package" in found.stderr


@pytest.mark.parametrize("package", ["analysis", "capacity"])
def test_an_old_python_is_told_so(package: str) -> None:
    source = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))
    code = f"import sys\nsys.hexversion = 0x030A0000\nimport {package}"
    found = python("-c", code, PYTHONPATH=str(ROOT))
    assert "ImportError: DeepCapacity needs Python 3.11 or later; this is 3." in found.stderr


def test_the_command_lists_and_loads_no_torch(installed: Path) -> None:
    code = (
        "import sys\nfrom analysis.__main__ import main\n"
        "sys.argv = ['/somewhere/deepcapacity', '--help']\nmain()\nprint('torch' in sys.modules)"
    )
    found = python("-c", code, executable=installed, PYTHONPATH="")
    assert found.stdout.endswith("\nFalse\n") and "Exit status: 0 done; 2" in found.stdout
    assert all(f"deepcapacity {name.replace('_', '-')}\n" in found.stdout for name in commands())


def test_the_command_says_its_version_and_names_the_nearest_command(installed: Path) -> None:
    command = installed.with_name("deepcapacity")
    found = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert found.stdout == f"deepcapacity {capacity.__version__}\n"
    found = python("-m", "analysis", "capacity-curv")
    assert found.returncode == 2 and "'capacity_curve'" in found.stderr and found.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["data-requirement", "data_requirement"])
def test_names_with_hyphens_and_underscores(name: str, installed: Path) -> None:
    call = [installed.with_name("deepcapacity"), name, "--help"]
    found = subprocess.run(call, capture_output=True, text=True)
    assert found.stdout.startswith("usage: deepcapacity data-requirement ")
    assert "Exit status: 0 done; 2 bad input" in " ".join(found.stdout.split())


def test_completion_knows_commands_and_options() -> None:
    found = python("-m", "analysis", "--tyro-print-completion", "bash")
    assert "capacity-curve" in found.stdout and "--learning-rate" in found.stdout
    if bash := shutil.which("bash"):
        subprocess.run([bash, "-n"], input=found.stdout, text=True, check=True)


@pytest.mark.parametrize(
    ("module", "extra", "call"),
    [
        (
            "onnxscript",
            "onnx",
            "import compression as c; from torch import nn; c.export_onnx(nn.ReLU(), 'x', input_size=(1,))",
        ),
        ("dask", "cluster", "from analysis.lab.runs.grid import _client; _client('tcp://x:1').__enter__()"),
        (
            "nbformat",
            "notebook",
            "from analysis.lab.reporting.documents import to_notebook; to_notebook('x', [])",
        ),
    ],
)
def test_a_missing_extra_is_named_with_the_line_to_type(module: str, extra: str, call: str) -> None:
    found = run_script(f"import sys; sys.modules[{module!r}] = None; {call}")
    assert "InputError: " in found.stderr and f'pip install "deepcapacity[{extra}]"' in found.stderr
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in extras["optional-dependencies"]


def test_torch_and_torchvision_that_do_not_fit_end_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')", encoding="utf-8"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    call = (
        "-m",
        "analysis.capacity_report",
        "--model",
        "torchvision:resnet18",
        "--output",
        str(tmp_path / "out"),
    )
    found = python(*call, PYTHONPATH=path)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "pip install --force-reinstall torch torchvision" in found.stderr


def test_names_of_compression_agree_wherever_they_stand() -> None:
    tree = ast.parse((ROOT / "compression/__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: str(node.module).split(".")[1]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and re.match(r"compression\.[a-z]", str(node.module))
        for alias in node.names
    }
    assert typed == compression._HOMES
    assert sorted(typed) == sorted(compression.__all__)
    text = str(compression.__doc__)
    assert all(re.search(rf"\b{name}\b", text) for name in typed)
    assert not typed.keys() & {path.stem for path in (ROOT / "compression").iterdir()}
    for name, home in typed.items():  # a module of that name, or one of a package's
        assert f"{getattr(compression, name).__module__}.".startswith(f"compression.{home}."), name
    assert typed.keys() <= set(dir(compression))
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        compression.prun  # noqa: B018


@pytest.mark.parametrize("package", ["capacity", "compression"])
def test_help_lists_the_functions(package: str) -> None:
    found = run_script(f"help({package!r})", env={**os.environ, "PAGER": "cat"})
    names = sys.modules[package].__all__
    assert "FUNCTIONS" in found.stdout and all(name in found.stdout for name in names)
    text = str(sys.modules[package].__doc__)
    assert all(re.search(rf"\b{name}\b", text) for name in names if name[0].islower())


def test_metadata_passes_the_check_of_indexes(wheel: Path) -> None:
    pytest.importorskip("twine", reason="the extra [dev] is not installed")
    found = python("-m", "twine", "check", "--strict", str(wheel))
    assert found.returncode == 0, found.stdout
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        text = archive.read(name).decode()
    assert "Classifier: Typing :: Typed" in text and "Requires-Python: >=3.11\n" in text
    assert not re.findall(r"\]\((?!https:|#)", text) and "src=" not in text


def test_the_citation_is_valid_and_of_this_version() -> None:
    pytest.importorskip("cffconvert", reason="the extra [dev] is not installed")
    from cffconvert import Citation

    citation = Citation((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    citation.validate()
    bibtex = citation.as_bibtex()
    assert all(f"{field} = {{" in bibtex for field in ("author", "title", "year"))
    assert f"version: {capacity.__version__}\n" in citation.cffstr
    assert f"### {capacity.__version__}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


USERS_PROJECT = """
import torch
from torch import nn
import capacity
from compression import L1, TensorBatches, TrainingSettings, decode, distill, encode, evaluate, factorize, fit
from compression import prune, quantize, share_weights, shrink, squeeze

model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
train = TensorBatches(torch.rand(8, 4), torch.zeros(8, dtype=torch.long), batch_size=4)
reveal_type(capacity.measure(model, (4,)))
reveal_type(capacity.measure(model, (4,)).capacity_bits)
reveal_type(capacity.dense_capacity(4, [8, 2]))
reveal_type(capacity.generalization(capacity.measure(model, (4,)), correct=1, total=2, label_bits=1.0).ratio)
reveal_type(prune(model, L1(center="zero"), amount=0.5).achieved)
reveal_type(shrink(model, (4,), amount=0.2).model)
reveal_type(quantize(model, scheme="dynamic", input_size=(4,)).model)
reveal_type(factorize(model, rank=1).model)
reveal_type(share_weights(model, bits=2).model)
reveal_type(fit(model, train, settings=TrainingSettings(epochs=1)).model)
reveal_type(evaluate(model, train).correct)
reveal_type(distill(model, model, train).model)
reveal_type(encode(model, "net.dcz"))
reveal_type(decode("net.dcz", model))
for step in squeeze(
    model, L1(), amount=0.1, iterations=1,
    retrain=lambda m: fit(m, train), evaluate=lambda m: evaluate(m, train),
):
    reveal_type(step.density)
"""


BEHIND = (  # the types of our functions: what they import within, whose analysis takes minutes
    "IPython", "accelerate", "dask", "distributed", "joblib", "matplotlib", "mlflow", "nbclient", "nbformat",
    "onnx", "onnxruntime", "onnxscript", "pandas", "rich", "scipy", "seaborn", "sklearn", "sympy",
    "tensorboard", "timm", "torch_pruning", "torchao", "torchvision", "transformers", "tyro", "wandb",
    *(f"torch.{part}" for part in (
        "_decomp", "_dynamo", "_export", "_functorch", "_higher_order_ops", "_inductor", "_library", "_prims",
        "_refs", "_subclasses", "ao", "backends", "cuda", "distributed", "distributions", "export",
        "fx.experimental", "jit", "masked", "mtia", "onnx", "package", "profiler", "quantization", "sparse",
        "testing", "xpu",
    )),
)  # fmt: skip


def test_a_users_project_gets_types_and_no_any_of_ours(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(USERS_PROJECT, encoding="utf-8")
    skipped = ",".join(f"{name}.*" for name in BEHIND)
    settings = f"[mypy]\n[mypy-{skipped}]\nfollow_imports = skip\nfollow_imports_for_stubs = True\n"
    (tmp_path / "mypy.ini").write_text(settings, encoding="utf-8")
    call = ("-m", "mypy", "--strict", "--python-executable", str(installed), "--python-version", "3.13")
    found = python(*call, "--cache-dir", os.devnull, "project.py", folder=tmp_path, PYTHONPATH="")
    assert found.returncode == 0, found.stdout
    shown = re.findall(r'Revealed type is "(.*)"', found.stdout)
    assert len(shown) == USERS_PROJECT.count("reveal_type(") and not any("Any" in line for line in shown), (
        shown
    )
