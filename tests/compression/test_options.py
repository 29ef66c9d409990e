"""Options that functions share: by name, with their defaults, all listed; others refused as Python does."""

import inspect
from typing import Any

import pytest
import torch
from torch import nn

import compression
from compression import L1, prune
from compression.identity import describe
from compression.masks import masks_of
from compression.options import with_options
from compression.pruning import DEFAULTS, extend_masks
from compression.squeezing import SQUEEZE_DEFAULTS
from compression.steps import STEP_DEFAULTS

LISTED: dict[str, dict[str, Any]] = {
    "prune": dict(DEFAULTS),
    "squeeze": {"retrain": None, **SQUEEZE_DEFAULTS},
    "recipe": {"repeats": 20, **STEP_DEFAULTS},
    "fit": dict.fromkeys(("settings", "validation", "objective", "metrics", "progress", "tracker")),
    "distill": {"loss": None, "settings": None, "validation": None, "mixup": False, "cache": None,
                "features": None, "progress": None},
    "quantize": {"calibration": None, "retrain": None, "weight_bits": 8, "group_size": None, "keep": ()},
}  # fmt: skip


@pytest.mark.parametrize("name", LISTED)
def test_help_lists_every_option_with_its_default(name: str) -> None:
    parameters = inspect.signature(getattr(compression, name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert defaults == LISTED[name]
    assert {p.kind for p in parameters} <= {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    }
    assert all(p.annotation is not p.empty for p in parameters)


@pytest.mark.parametrize("name", LISTED)
def test_an_option_of_another_name_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'keeep'$"):
        getattr(compression, name)(None, None, keeep=1)


def test_a_missing_argument_is_named_by_python() -> None:
    with pytest.raises(TypeError, match=r"^prune\(\) missing 1 required keyword-only argument: 'amount'$"):
        prune(nn.Linear(2, 2), L1())


def test_masks_are_extended_by_the_options_of_prune() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    masks: dict[str, Any] = {}
    extend_masks(model, masks, L1(), amount=2, unit="neuron", layers=["0"])
    pruned = masks_of(prune(model, L1(), amount=2, unit="neuron", layers=["0"]).model)
    assert masks.keys() == pruned.keys() == {"0.weight", "0.bias"}
    assert all(bool((masks[name] == pruned[name]).all()) for name in masks)
    with pytest.raises(TypeError, match="unexpected keyword argument 'cope'"):
        extend_masks(model, masks, L1(), amount=2, cope="global")


def test_what_a_stored_result_depends_on_names_the_options_and_not_the_decorator() -> None:
    @with_options({"scope": "layer"})
    def own(amount: float, **options: str) -> str:
        return options["scope"]

    assert (own(0.5), own(0.5, scope="global")) == ("layer", "global")
    assert describe(f=prune) == {
        "f": "compression.pruning.prune", "f.unit": "'weight'", "f.scope": "'layer'", "f.layers": "None",
        "f.input_size": "None", "f.keep": "1",
    }  # fmt: skip
