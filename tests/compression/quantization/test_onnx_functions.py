"""ONNX's forms of operations read once: the same files, and nothing left behind in torch."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from compression.quantization import export_onnx
from compression.quantization.onnx_functions import read_once

pytest.importorskip("onnxscript")


def exported(path: Path) -> str:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 3))
    export_onnx(model, path, input_size=(1, 8, 8))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_are_those_of_torch_and_torch_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    before = vars(ONNXRegistry)["from_torchlib"]
    once = [exported(tmp_path / f"{n}.onnx") for n in range(2)]
    assert vars(ONNXRegistry)["from_torchlib"] is before
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(
            ONNXRegistry,
            "from_torchlib",
            classmethod(lambda kind, *args, **kwargs: calls.append(kind) or before.__func__(kind, **kwargs)),
        )
        assert exported(tmp_path / "anew.onnx") == once[0] == once[1]
        assert len(calls) == 1  # another function than the one read before
    assert vars(ONNXRegistry)["from_torchlib"] is before


def test_what_one_export_adds_the_next_does_not_see() -> None:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with read_once():
        first = ONNXRegistry.from_torchlib()
        name, forms = next(iter(first.functions.items()))
        first.functions["ours"] = []
        forms.append(forms[0])
        again = ONNXRegistry.from_torchlib()
    own = ONNXRegistry.from_torchlib()
    assert "ours" not in again.functions and again.functions.keys() == own.functions.keys()
    assert len(again.functions[name]) == len(own.functions[name]) == len(forms) - 1
    assert again.opset_version == own.opset_version


def test_operations_that_come_later_are_exported_too(tmp_path: Path) -> None:
    """A library brings those of integers: it is imported by the first quantization, after a float export."""
    code = (
        "import torch\nfrom compression.quantization import export_onnx, quantize\n"
        "model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))\n"
        "export_onnx(model, 'float.onnx', input_size=(6,))\n"
        "batch = torch.randn(32, 6), torch.zeros(32).long()\n"
        "result = quantize(model, scheme='static', input_size=(6,), calibration=[batch])\n"
        "print(export_onnx(result.model, 'static.onnx', input_size=(6,)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == (tmp_path / "static.onnx").stat().st_size
