"""Models on the meta device, of which there are shapes only: refused alike, with advice that works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import compression as c
from capacity import InputError, measure
from compression.shrinking.silencing import mask_dead_norm_channels, zero_dead_parameters

X, Y = torch.randn(8, 4), torch.arange(8) % 2
Call = Callable[[nn.Module, Path], Any]

CALLS: dict[str, Call] = {
    "effective": lambda m, _: measure(m, (4,), effective=True),
    "prune": lambda m, _: c.prune(m, c.L1(), amount=0.5),
    "prune_to_budget": lambda m, _: c.prune_to_budget(
        m, c.L1(), input_size=(4,), budget=c.Budget("parameters", 40)
    ),
    "shrink": lambda m, _: c.shrink(m, (4,), amount=0.5),
    "mask_dead_norm_channels": lambda m, _: mask_dead_norm_channels(m, (4,)),
    "zero_dead_parameters": lambda m, _: zero_dead_parameters(m, (4,)),
    "factorize": lambda m, _: c.factorize(m, rank=0.9),
    "weight-only": lambda m, _: c.quantize(m, scheme="weight-only", input_size=(4,)),
    "static": lambda m, _: c.quantize(m, scheme="static", input_size=(4,), calibration=[(X, Y)]),
    "share": lambda m, _: c.share_weights(m, bits=2),
    "quantize_rate_distortion": lambda m, _: c.quantize_rate_distortion(m),
    "encode": lambda m, path: c.encode(m, path / "model.dc"),
    "coding_report": lambda m, _: c.coding_report(m),
    "save_model": lambda m, path: c.save_model(m, path / "model.safetensors"),
    "save_shrunk": lambda m, path: c.save_shrunk(m, path / "model.shrunk"),
    "evaluate": lambda m, _: c.evaluate(m, [(X, Y)]),
    "fit": lambda m, _: c.fit(m, [(X, Y)], settings=c.TrainingSettings(epochs=1)),
    "distill": lambda m, _: c.distill(m, m, [(X, Y)], settings=c.TrainingSettings(epochs=1)),
    "Fisher": lambda m, _: c.prune(m, c.Fisher([(X, Y)]), amount=0.5),
    "GaussNewton": lambda m, _: c.prune(m, c.GaussNewton([X]), amount=0.5),
    "ActivationNorm": lambda m, _: c.prune(m, c.ActivationNorm([X]), amount=0.5),
    "prune_with_feedback": lambda m, _: c.prune_with_feedback(m, [X], amount=0.5),
    "round_with_feedback": lambda m, _: c.round_with_feedback(m, [X]),
    "code_with_feedback": lambda m, _: c.code_with_feedback(m, [X], penalty=1e-3),
    "fit_together": lambda m, _: c.fit_together(
        [m], [c.TensorBatches(X, Y)], settings=c.TrainingSettings(epochs=1)
    ),
    "recipe": lambda m, _: c.recipe(m, [], input_size=(4,), evaluate=lambda _: {}, repeats=1),
    "squeeze": lambda m, _: list(
        c.squeeze(m, c.L1(), amount=0.5, iterations=1, retrain=lambda m: m, evaluate=lambda _: {})
    ),
}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.parametrize("name", CALLS)
def test_a_model_without_numbers_is_refused_and_the_advice_works(name: str, tmp_path: Path) -> None:
    state: dict[str, Tensor] = network().state_dict()
    with torch.device("meta"):
        model = network()
    with pytest.raises(InputError, match="lies on the meta device") as told:
        CALLS[name](model, tmp_path)
    assert "model.to_empty(device='cpu'), then load_state_dict" in str(told.value)
    loaded = model.to_empty(device="cpu")
    loaded.load_state_dict(state)
    CALLS[name](loaded, tmp_path)
