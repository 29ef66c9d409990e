"""Each number once: tied tensors, buffers, modules under two names, subnormal numbers; everywhere alike."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from analysis.lab.measurement.deployment import file_bytes
from capacity import InputError
from compression.codec import coding_report
from compression.counting import (
    PART,
    distinct,
    flush_subnormals,
    nonzero_count,
    parameter_count,
    state_bytes,
    stored_tensors,
    subnormal_count,
)
from compression.quantization import load_quantized, quantize, save_quantized
from compression.recipes import recipe
from compression.shrinking.files import save_shrunk
from compression.training import TrainingSettings, fit


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(50, 50, bias=False), nn.ReLU(), nn.Linear(50, 50, bias=False))
    model[2].weight = model[0].weight
    return model.eval()


def under_two_names() -> nn.Sequential:
    layer = nn.Linear(9, 9)
    return nn.Sequential(layer, nn.ReLU(), layer).eval()


def same_memory() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(7, 7, bias=False), nn.Linear(7, 7, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data)
    return model.eval()


def normed() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)).eval()


NETS = [(tied, 2500, 2500, 50), (under_two_names, 90, 90, 9), (normed, 72, 89, 6)]


@pytest.mark.parametrize(("make", "parameters", "stored", "width"), NETS)
def test_counted_by_hand_wherever_it_is_counted(make, parameters, stored, width) -> None:
    model = make()
    assert parameter_count(model) == parameters
    step = recipe(model, [], input_size=(width,), evaluate=lambda m: {}, repeats=1).steps[0].metrics
    assert step["parameters"] == parameters
    assert (
        step["nonzero_parameters"]
        == nonzero_count(model)
        == sum(int(torch.count_nonzero(p)) for p in {p.data_ptr(): p for p in model.parameters()}.values())
    )
    assert coding_report(model).dense_bytes == 4 * stored
    longer = 4 if make is normed else 0  # a count of batches takes eight bytes
    assert state_bytes(model) == 4 * stored + longer
    assert state_bytes(model) < file_bytes(model) < state_bytes(model) + 600


@given(
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    ties=st.lists(st.integers(0, 5), max_size=6),
)
def test_as_a_set_of_parameters(widths: list[int], ties: list[int]) -> None:
    model = nn.ModuleList(nn.Linear(width, width) for width in widths)
    for place, other in enumerate(ties[: len(widths)]):
        model[place].weight = model[min(other, len(widths) - 1)].weight
    model.append(model[0])
    assert parameter_count(model) == sum(p.numel() for p in set(model.parameters()))


def test_views_and_tensors_without_memory() -> None:
    assert parameter_count(same_memory()) == 49
    base = torch.zeros(4, 4)
    assert len(distinct([base, base[:2], base.detach(), base.T])) == 3
    assert len(distinct([torch.zeros(0), torch.zeros(0)])) == 2
    meta = nn.Sequential(nn.Linear(3, 3, device="meta"), nn.Linear(3, 3, device="meta"))
    assert parameter_count(meta) == 24
    meta[1].weight = meta[0].weight
    assert parameter_count(meta) == 15


class Keeping(nn.Linear):
    """A layer whose state dict holds more than tensors."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"version": 1}


def test_state_that_is_no_tensor_counts_nothing_and_hinders_nothing(tmp_path: Path) -> None:
    model = nn.Sequential(Keeping(8, 4), nn.Linear(4, 3))
    assert set(stored_tensors(model)) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert state_bytes(model) == 4 * 51
    assert file_bytes(model) == file_bytes(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3)))
    data = [(torch.randn(6, 8), torch.arange(6) % 3)]
    watched = fit(model, data, settings=TrainingSettings(epochs=2, patience=1), validation=data)
    assert watched.model[0].get_extra_state() == {"version": 1}
    result = quantize(model, scheme="weight-only", input_size=(8,))
    assert (result.bytes_before, result.bytes_after) == (4 * 51, 44 + 4 * 7 + 7 * (4 + 8))
    save_quantized(result, tmp_path / "net")  # a graph holds no such state
    assert load_quantized(model, tmp_path / "net", input_size=(8,))(data[0][0]).shape == (6, 3)
    with pytest.raises(InputError, match=r"'0._extra_state' is of type dict"):
        save_shrunk(model, tmp_path / "net")


def test_codes_of_a_graphs_own_are_no_parameters() -> None:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)
            self.register_buffer("codes", torch.ones(4, 4, dtype=torch.int8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(x) @ self.codes.float()
            return out

    for scheme in ("static", "weight-only", "dynamic"):
        batch = [(torch.randn(6, 8), torch.arange(6) % 3)]
        graph = quantize(Coded(), scheme=scheme, input_size=(8,), calibration=batch).model
        assert parameter_count(graph) == 36


def test_subnormal_numbers_are_flushed_and_halves_are_not() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        model[0].weight[0] = 1e-39
        model[1].running_mean[:2] = -1e-40
    assert subnormal_count(model) == 6 == flush_subnormals(model)
    assert subnormal_count(model) == 0 and int((model[0].weight == 0).sum()) == 4
    with torch.no_grad():
        model[0].weight[2, :2] = torch.tensor([1e-39, float("nan")])
        model[0].weight.data = model[0].weight.T  # numbers that no one row holds
    assert flush_subnormals(model) == 1 and subnormal_count(model) == 0
    wide = nn.Linear(2 * PART, 1, bias=False)
    with torch.no_grad():
        wide.weight[0, :: PART // 2] = 1e-39
    assert flush_subnormals(wide) == 4 and int((wide.weight == 0).sum()) >= 4
    half = nn.Linear(2, 2).half()
    nn.init.constant_(half.weight, 1e-6)
    assert flush_subnormals(half) == 0 and bool((half.weight != 0).all())
