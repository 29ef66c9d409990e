"""ONNX's forms of operations read once: the same files, and nothing left behind in torch."""

import hashlib
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
