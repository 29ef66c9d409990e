"""What ONNX Runtime and compiled kernels compute is compared with the network's outputs first."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError
from compression import export_onnx, quantize
from compression.quantization import compiled, files, runtimes
from compression.quantization.runtimes import AGREE_DB, distance_db

onnx_ir, onnxruntime = pytest.importorskip("onnx_ir"), pytest.importorskip("onnxruntime")
FLOATS = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def distort(program: Any, part: float = 0.1) -> None:
    """What a wrong rewriting would do: every float that the file holds is a tenth too large."""
    for value in program.model.graph.initializers.values():
        numbers = value.const_value.numpy()
        if numbers.dtype == np.float32:
            value.const_value = onnx_ir.tensor(numbers * np.float32(1 + part))


def test_a_file_that_computes_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    monkeypatch.setattr(files, "fit_biases", distort)
    with pytest.raises(InputError, match=r"net\.onnx was not written: .* lies 1\d\.\d dB"):
        export_onnx(network(), path, input_size=(6,))
    assert not path.exists()
    monkeypatch.undo()
    assert export_onnx(network(), path, input_size=(6,)) == path.stat().st_size


def test_what_onnx_runtime_cannot_run_is_written_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(model: object) -> None:
        raise NotImplementedError("no such operation: Odd(1)")

    monkeypatch.setattr(runtimes, "_session", refuse)
    with pytest.warns(UserWarning, match=r"net\.onnx could not be tried: .*no such operation: Odd") as said:
        export_onnx(network(), tmp_path / "net.onnx", input_size=(6,))
    assert said[0].filename == __file__
    assert (tmp_path / "net.onnx").exists()


class Deep(nn.Module):
    """Integers between many layers without a last say: the least change ends as large as rounding itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(12))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = nn.functional.layer_norm(torch.sin(3 * layer(x)), (64,))
        return x


def test_a_network_that_differs_from_itself_as_much_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(4, 64, 64), torch.zeros(4, dtype=torch.long))]
    with pytest.warns(UserWarning, match="dB from the float network's"):
        graph = quantize(Deep().eval(), scheme="static", input_size=(64, 64), calibration=batches).model
    x, path = torch.randn(2, 64, 64), tmp_path / "net.onnx"
    monkeypatch.setattr(files, "fit_biases", partial(distort, part=1e-6))
    assert export_onnx(graph, path, input_size=(64, 64)) > 0
    session = onnxruntime.InferenceSession(path)
    (theirs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert distance_db([graph(x).detach()], [torch.from_numpy(theirs)]) < AGREE_DB
    monkeypatch.setattr(files, "fit_biases", partial(distort, part=0.5))
    with pytest.raises(InputError, match="was not written"):
        export_onnx(graph, path, input_size=(64, 64))


def test_kernels_that_compute_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = quantize(network(), scheme="weight-only", input_size=(6,)).model
    x = torch.randn(3, 6)
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda graph, **_: compile_(lambda x: 1.1 * graph(x), dynamic=False)
    )
    with pytest.raises(
        InputError, match=r"compiled kernels compute lies 20\.\d dB .* run the graph as it is"
    ):
        compiled(graph, x)
    monkeypatch.undo()
    assert torch.allclose(compiled(graph, x)(x), graph(x), atol=1e-5)


@given(FLOATS, st.floats(1e-4, 1.0))
def test_distances_are_those_of_the_formula(numbers: list[float], part: float) -> None:
    right = torch.tensor(numbers, dtype=torch.float64)
    if right.abs().max() < 1e-3:
        return
    expected = -20 * math.log10(part)
    assert distance_db([right], [right * (1 + part)]) == pytest.approx(expected, abs=1e-4)
    assert distance_db([right, right], [right, right * (1 + part)]) == pytest.approx(expected, abs=1e-4)
    assert distance_db([right], [right]) == math.inf


def test_zeros_and_what_is_not_finite() -> None:
    zeros, odd = torch.zeros(3), torch.tensor([1.0, math.inf, math.nan])
    assert distance_db([zeros], [zeros + 1e-9]) == math.inf
    assert distance_db([zeros], [zeros + 1e-2]) == -math.inf
    assert distance_db([odd], [odd.clone()]) == math.inf
    assert distance_db([odd], [torch.tensor([1.0, -math.inf, math.nan])]) == -math.inf
    assert distance_db([torch.ones(3)], [odd]) == -math.inf
    assert distance_db([odd], [torch.ones(3)]) == -math.inf
    assert distance_db([torch.ones(3)], [torch.ones(2)]) == -math.inf
    assert distance_db([], []) == math.inf
