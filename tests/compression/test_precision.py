"""bfloat16 only where it is the machine's own, and convolutions in the layout that they are given in."""

import pytest
import torch
from torch import nn

from capacity import InputError
from compression.batches import TensorBatches
from compression.criteria import L1
from compression.ensembles import fit_together
from compression.masks import masks_of
from compression.precision import check_precision, fast_bf16
from compression.pruning import prune
from compression.training import TrainingSettings, fit

CPU = torch.device("cpu")
HALF = TrainingSettings(epochs=1, mixed_precision="bf16")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)
    )


def pictures() -> TensorBatches:
    generator = torch.Generator().manual_seed(0)
    return TensorBatches(
        torch.randn(48, 3, 8, 8, generator=generator), torch.arange(48) % 4, 16, shuffle=True
    )


@pytest.mark.parametrize(
    ("amx", "avx", "machine", "fast"),
    [
        (True, True, "x86_64", True), (False, True, "AMD64", True), (True, False, "x86_64", True),
        (False, False, "x86_64", False), (False, False, "aarch64", True),
    ],
)  # fmt: skip
def test_either_unit_of_a_processor_is_enough(monkeypatch, amx: bool, avx: bool, machine: str, fast) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert fast_bf16(CPU) == fast
    check_precision("no", CPU)
    if fast:
        check_precision("bf16", CPU)


def test_what_is_imitated_is_refused_with_what_is_fast(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(InputError, match="imitate them, slower than 'no', which is fast here"):
        fit(flat, pictures(), settings=HALF)
    with pytest.raises(InputError, match="no bfloat16 products of its own"):
        fit_together([flat] * 2, [pictures()] * 2, settings=HALF)
    assert [
        entry["epoch"] for entry in fit(flat, pictures(), settings=TrainingSettings(epochs=1)).history
    ] == [1]


@pytest.mark.parametrize("unit", ["neuron", "weight"])
def test_channels_last_trains_so_and_equally(unit: str) -> None:
    first = prune(net(), L1(), amount=0.25, unit=unit).model
    last = prune(net().to(memory_format=torch.channels_last), L1(), amount=0.25, unit=unit).model
    settings = TrainingSettings(epochs=3, learning_rate=0.02)
    one, two = (fit(model, pictures(), settings=settings).model for model in (first, last))
    for model in (two[0], two[3]):
        original = model.parametrizations.weight.original
        assert original.is_contiguous(memory_format=torch.channels_last) and not original.is_contiguous()
    for name, mask in masks_of(first).items():
        layer, _, key = name.rpartition(".")
        assert bool((two.get_submodule(layer).parametrizations[key].original[~mask] == 0).all())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
