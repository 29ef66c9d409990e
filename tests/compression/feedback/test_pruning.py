"""prune_with_feedback(): less output error than masks alone, patterns, and what cannot be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError, measure
from compression import (
    L1,
    ActivationNorm,
    Calibration,
    code_with_feedback,
    load_model,
    prune,
    prune_n_of_m,
    prune_with_feedback,
    round_with_feedback,
    save_model,
)
from compression.masks import masks_of


def batches(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(12, 12, generator=generator)
    return [
        ((torch.randn(30, 12, generator=generator) @ mixed).view(30, 3, 2, 2), torch.arange(30) % 4)
        for _ in range(3)
    ]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 8, 2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2)]
    return nn.Sequential(*stem, nn.ReLU(), nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def change(model: nn.Module, other: nn.Module, data: list[tuple[Tensor, Tensor]]) -> float:
    with torch.no_grad():
        return sum(float((model(x) - other(x)).square().sum()) for x, _ in data)


@settings(max_examples=6)
@given(st.sampled_from([0.3, 0.5, 0.8]), st.integers(0, 20))
def test_a_layer_errs_less_than_with_the_same_mask_alone(amount, seed):
    with_feedback, alone = layer_errors(amount, seed)
    assert with_feedback < alone


@pytest.mark.parametrize(("amount", "most"), [(0.3, 0.4), (0.5, 0.6), (0.8, 0.9)])
def test_how_much_less_a_layer_errs(amount: float, most: float) -> None:
    shares = [with_feedback / alone for with_feedback, alone in (layer_errors(amount, n) for n in range(10))]
    assert sum(shares) / len(shares) < most


def layer_errors(amount: float, seed: int) -> list[float]:
    """Output errors of a pruned layer, with feedback and by its mask alone, and whether they are told."""
    torch.manual_seed(seed)
    layer, data = nn.Linear(12, 9, bias=False), [x.flatten(1) for x, _ in batches(seed)]
    result = prune_with_feedback(layer, Calibration(data, damping=1e-9), amount=amount, layers=[""])
    x = torch.cat(data)
    with torch.no_grad():
        errors = [
            float((x @ (weight - layer.weight).t()).square().sum())
            for weight in (result.model.weight, layer.weight * result.masks["weight"])
        ]
    energy = float((x @ layer.weight.detach().t()).square().sum())
    assert result.output_errors[""] == pytest.approx(errors[0] / energy, rel=1e-3)
    assert int((~result.masks["weight"]).sum()) == round(amount * 108)
    return errors


@pytest.mark.parametrize("sequential", [True, False])
def test_a_network_stays_nearer_than_by_magnitude(sequential):
    model, data = network(), batches()
    before = [p.clone() for p in model.parameters()]
    result = prune_with_feedback(model, Calibration(data, sequential), amount=0.5)
    plain = prune(model, L1("zero"), amount=0.5).model
    assert change(result.model, model, data) < 0.7 * change(plain, model, data)
    assert [(row.name, row.before, row.pruned) for row in result.layers] == [
        ("0", 96, 48), ("3", 288, 144), ("6", 128, 64)
    ]  # fmt: skip
    assert result.achieved == 0.5 and result.left[0].name == "8"
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert "output error" in str(result)
    assert torch.equal(result.model[8].weight, model[8].weight)


def test_masks_are_those_of_the_package(tmp_path):
    model, data = network(), batches()
    result = prune_with_feedback(model, data, amount={"0": 24, "6": 0.5})
    assert result.achieved == {"0": 24, "6": 0.5} and masks_of(result.model).keys() == {
        "0.weight",
        "6.weight",
    }
    save_model(result.model, tmp_path / "net")
    again = load_model(network(), tmp_path / "net").eval()
    assert torch.equal(again(data[0][0]), result.model(data[0][0]))
    report = measure(result.model, (3, 2, 2), effective=True)
    assert report.capacity_bits < measure(model, (3, 2, 2)).capacity_bits
    more = prune_with_feedback(result.model, data, amount=0.5, layers=["0"])
    assert more.layers[0].before == 72 and more.layers[0].pruned == 36
    assert not (more.masks["0.weight"] & ~result.masks["0.weight"]).any()


def test_two_of_four():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)), []
    data = [x.flatten(1) for x, _ in batches()]
    result = prune_with_feedback(model, data, n_of_m=(2, 4))
    plain = prune_n_of_m(model, L1("zero"))
    for name, mask in result.masks.items():
        assert bool((mask.reshape(-1, 4).sum(1) == 2).all()), name
    pairs = [(x, x) for x in data]
    assert change(result.model, model, pairs) < 0.5 * change(plain.model, model, pairs)
    assert result.requested == result.achieved == 0.5
    conv = prune_with_feedback(network(), batches(), n_of_m=(2, 4))
    assert conv.masks.keys() == {"0.weight", "3.weight", "6.weight"}


def test_a_weight_in_two_layers_sees_what_both_are_given():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.Linear(4, 2)
    )
    model[2].weight = model[0].weight
    data = [torch.randn(20, 4, generator=torch.Generator().manual_seed(1))]
    result = prune_with_feedback(model, data, amount=0.5)
    assert result.model[2].weight.data_ptr() == result.model[0].weight.data_ptr() or torch.equal(
        result.model[2].weight, result.model[0].weight
    )
    assert int((result.model[0].weight == 0).sum()) == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either amount or n_of_m"),
        ({"amount": 0.5, "n_of_m": (2, 4)}, "either amount or n_of_m"),
        ({"n_of_m": (4, 4)}, "0 < n < m"),
        ({"n_of_m": (2, 5)}, "no multiple of 5"),
        ({"amount": 2.0}, "amount must be"),
        ({"amount": 96, "layers": ["0"]}, "cannot prune 96"),
        ({"amount": 0.5, "layers": ["nine"]}, "nine"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        prune_with_feedback(network(), batches(), **arguments)


@pytest.mark.parametrize(
    "settings", [{"damping": -1}, {"damping": "x"}, {"sequential": "no"}, {"batches": 3}]
)
def test_a_calibration_that_cannot_be_is_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        Calibration(**{"batches": batches(), **settings})


def test_layers_without_inputs_to_see_are_left():
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.after = nn.MultiheadAttention(4, 2), nn.Linear(4, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.after(self.attention(x, x, x)[0]).relu())

    torch.manual_seed(0)
    result = prune_with_feedback(Attending(), [torch.randn(5, 3, 4)], amount=0.5)
    assert result.masks.keys() == {"after.weight"}
    reasons = {row.name: row.reason for row in result.left}
    assert "MultiheadAttention" in reasons["attention.in_proj_weight"]
    assert "not called" in reasons["attention.out_proj"]
    with pytest.raises(InputError, match="NaN or infinity"):
        prune_with_feedback(Attending(), [torch.full((5, 3, 4), torch.inf)], amount=0.5)
    with pytest.raises(InputError, match="no calibration batches"):
        prune_with_feedback(Attending(), [], amount=0.5)


@pytest.mark.parametrize("work", [prune_with_feedback, round_with_feedback, code_with_feedback])
def test_layers_without_weights_and_models_without_layers_are_told(work):
    options = {prune_with_feedback: {"amount": 0.5}, code_with_feedback: {"penalty": 1e-3}}.get(work, {})
    with pytest.raises(InputError, match="no layer whose inputs can be seen"):
        work(nn.ReLU(), [torch.randn(3, 4)], **options)
    with pytest.raises(InputError, match="'0': it has no weights; '1': it has no weights"):
        work(
            nn.Sequential(nn.Linear(4, 0), nn.Linear(0, 2)), [torch.randn(3, 4)], **options, layers=["0", "1"]
        )


def test_frozen_layers_are_coded_as_others_and_stay_frozen():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), torch.randn(9, 4)
    free = code_with_feedback(model, [x], penalty=1e-3).model
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    coded = code_with_feedback(model, [x], penalty=1e-3).model
    assert all(map(torch.equal, coded.parameters(), free.parameters()))
    assert [p.requires_grad for p in coded.parameters()] == [False, False, True, True]


class Unit(nn.Linear):
    """Rows of length 1."""

    def forward(self, x):
        return nn.functional.linear(x, nn.functional.normalize(self.weight, dim=1), self.bias)


class Same(nn.Linear):
    def forward(self, x):
        return super().forward(x)


def test_layers_that_do_something_else_than_their_type_are_left():
    torch.manual_seed(0)
    model, x = nn.Sequential(Unit(4, 8), nn.ReLU(), Same(8, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(9, 4)
    result = prune_with_feedback(model, [x], amount=0.5)
    assert result.masks.keys() == {"2.weight"}
    reasons = {row.name: row.reason for row in result.left}
    assert reasons["0"] == "the forward of Unit is another than that of its type"
    assert torch.equal(result.model[0].weight, model[0].weight)
    model[2].forward = lambda x: -nn.Linear.forward(model[2], x)
    assert round_with_feedback(model, [x]).left.keys() == {"0", "2"}


def test_norms_of_activations_are_numbers_whatever_a_layer_does():
    torch.manual_seed(0)
    model, x = nn.Sequential(Unit(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(9, 4)
    scores = ActivationNorm([x]).observe(model)
    assert torch.allclose(scores["0.weight"], model[0].weight.abs() * x.norm(dim=0))
