"""Live parts by hand: masks in the forward, ties, frozen layers, raw columns, and what becomes zero."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import measure
from capacity.live import live_masks
from compression.masks import apply_masks
from compression.shrinking.silencing import zero_dead_parameters


class Gated(nn.Module):
    """Hidden units times a buffer."""

    def __init__(self, use) -> None:
        super().__init__()
        self.first, self.last, self.use = nn.Linear(3, 4), nn.Linear(4, 2), use
        self.register_buffer("keep", torch.tensor([1.0, 0.0, 1.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.use(torch.relu(self.first(x)), self.keep))


def multiplied_in_place(h: Tensor, keep: Tensor) -> Tensor:
    h *= keep
    return h


USES = {
    "product": lambda h, keep: h * keep, "the other way round": lambda h, keep: keep * h,
    "in place": multiplied_in_place, "a view": lambda h, keep: h * keep[None],
    "a cast": lambda h, keep: h * keep.bool(),
    "where": lambda h, keep: torch.where(keep.bool(), h, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_a_unit_masked_in_the_forward_is_dead(use: str) -> None:
    report = {layer.name: layer for layer in measure(Gated(USES[use]), (3,), effective=True).layers}
    assert report["first"].parameters == 3 * 4 and report["last"].parameters == 2 * 4
    assert report["last"].input_bits == 3


def test_a_zero_that_was_computed_masks_nothing() -> None:
    model = Gated(lambda h, keep: h * (keep - 1))
    assert measure(model, (3,), effective=True).parameters == 26


class Beside(nn.Module):
    """A layer over features and raw data together."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.both = nn.Linear(3, 4), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(torch.cat([torch.relu(self.first(x)), x], 1))


def test_a_layer_whose_raw_columns_are_pruned_is_capped_again() -> None:
    model = Beside()
    assert measure(model, (3,), effective=True).layers[1].input_bits is None
    with torch.no_grad():
        model.both.weight[:, 5:] = 0
    assert measure(model, (3,), effective=True).layers[1].input_bits is None
    with torch.no_grad():
        model.both.weight[:, 4:] = 0
    capped = measure(model, (3,), effective=True).layers[1]
    assert (capped.input_bits, capped.parameters, capped.capacity_bits) == (4, 25, 4)


def test_a_dead_unit_of_a_frozen_layer_is_dead_to_the_trainable_ones() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, 0
    model[0].requires_grad_(False)
    report = measure(model, (3,), scope="trainable", effective=True)
    assert [(layer.name, layer.parameters) for layer in report.layers] == [("2", 5 * 4), ("4", 12)]


class Tied(nn.Module):
    """The first name of a shared table is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.tokens = nn.Embedding(10, 4), nn.Embedding(10, 4)
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 10, bias=False)
        self.tokens.weight = self.head.weight = self.shared.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(self.tokens(ids))))


@pytest.mark.parametrize("effective", [False, True])
def test_a_tie_counts_once_where_it_is_called(effective: bool) -> None:
    report = measure(Tied(), torch.arange(6)[None], effective=effective)
    assert {layer.name: layer.parameters for layer in report.layers} == {"tokens": 40, "body": 20, "head": 0}
    assert report.parameters == report.total_parameters == 60 and not report.notes


def test_a_tie_is_live_where_one_of_its_uses_is() -> None:
    model = Tied()
    with torch.no_grad():
        model.body.weight.zero_()  # the head still passes the bias on, but no data
    masks = live_masks(model, torch.arange(6)[None])
    assert all(torch.equal(masks[f"{name}.weight"], masks["shared.weight"]) for name in ("tokens", "head"))


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x)))


def test_what_passes_constants_on_stays_and_the_rest_becomes_zero() -> None:
    torch.manual_seed(0)
    model, x = Constants(), torch.randn(64, 3)
    with torch.no_grad():
        model.first.weight[:2] = 0
        model.first.bias[:2] = torch.tensor([0.7, -0.7])  # a constant, and one that the rectifier stops
        model.last.weight[:, 3] = 0
    quiet = zero_dead_parameters(model, (3,))
    torch.testing.assert_close(quiet(x), model(x), rtol=0, atol=0)
    assert quiet.first.bias.tolist()[0] == pytest.approx(0.7) and quiet.first.bias[1] == 0
    assert (quiet.last.weight != 0).any(0).tolist() == [True, False, True, False]
    assert (quiet.first.weight != 0).any(1).tolist() == [False, False, True, False]
    assert not live_masks(model, (3,))["first.bias"][:2].any()


class Named(nn.Module):
    """One layer under two names, and packed attention."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.other = nn.Linear(8, 8)
        self.attention, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.other(torch.relu(self.one(x)))
        return self.out(self.attention(h, h, h)[0])


def test_every_name_of_a_parameter_has_a_mask() -> None:
    torch.manual_seed(0)
    model = Named()
    with torch.no_grad():
        model.attention.in_proj_weight[16] = 0  # a value unit that sees nothing
    masks = live_masks(model, (3, 8))
    names = dict(model.named_parameters(remove_duplicate=False))
    assert {name: mask.shape for name, mask in masks.items() if name in names} == {
        name: parameter.shape for name, parameter in names.items()
    }
    assert not masks["attention.in_proj_weight"][16].any() and masks["attention.in_proj_weight"][17:].all()
    x = torch.randn(4, 3, 8)
    torch.testing.assert_close(zero_dead_parameters(model, (3, 8))(x), model(x), rtol=0, atol=0)


class Coordinates(nn.Module):
    """Data beside a column of the model's own, a learned token in front, and a bias made from a table."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bias, self.last = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)
        self.token = nn.Parameter(torch.ones(1, 1, 3))
        self.register_buffer("column", torch.ones(1, 5, 1))
        self.register_buffer("table", torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, self.column.expand(len(x), -1, -1)], 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.last(torch.relu(self.first(x) + self.bias(self.table))).mean(1)


def test_numbers_of_the_models_own_are_data_to_the_layers_that_see_them() -> None:
    model = Coordinates()
    with torch.no_grad():
        model.table[1] = 2
    plain, effective = measure(model, (5, 2)), measure(model, (5, 2), effective=True)
    assert effective.capacity_bits == plain.capacity_bits
    assert [row.parameters for row in effective.layers] == [row.parameters for row in plain.layers]
    with torch.no_grad():
        model.table[1] = 0
        model.first.weight[0] = 0
    live = live_masks(model, (5, 2))
    assert live["bias.weight"].tolist() == [[True, False]] * 4  # what sees only zeros stores nothing
    assert live["first.weight"].all(1).tolist() == [False, True, True, True]


class Branch(nn.Module):
    """A shortcut beside a branch whose last weights, or whose scale, start at zero."""

    def __init__(self, zero: str) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.ones(3))
        nn.init.zeros_(self.get_parameter(zero))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.scale * self.second(torch.relu(self.first(x))))


@pytest.mark.parametrize("zero", ["scale", "second.weight", "first.weight", "last.weight"])
def test_weights_that_start_at_zero_are_named_and_no_other_that_changes_an_output_is_dead(zero: str) -> None:
    torch.manual_seed(0)
    model, x = Branch(zero), torch.randn(64, 3)
    alive, before = live_masks(model, (3,)), model(x)
    moved, freed = set(), set()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            flat, live = parameter.view(-1), alive[name].view(-1)
            for place in range(len(flat)):
                kept = flat[place].item()
                flat[place] = kept + 1
                changes = bool(((model(x) - before).std(0) > 1e-6).any())  # more than by a constant
                flat[place] = kept
                if changes and not live[place]:
                    (freed if kept == 0 else moved).add(name)
    notes = [note for note in measure(model, (3,), effective=True).notes if "zero throughout" in note]
    assert not moved and freed <= {zero}
    assert len(notes) == 1 and notes[0].startswith(f"{zero}: zero throughout")


def test_masked_weights_are_not_called_zero_throughout() -> None:
    model = apply_masks(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), {"1.weight": torch.zeros(2, 4) > 0})
    assert not any("zero throughout" in note for note in measure(model, (3,), effective=True).notes)


class Switched(nn.Module):
    """Hidden units that let others pass, by a comparison, which hands on no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.body, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.gate(x)
        return self.last(torch.relu(self.body(h)) * (h > 0))


def test_a_unit_that_only_a_comparison_uses_is_alive_and_named() -> None:
    torch.manual_seed(0)
    model = Switched()
    with torch.no_grad():
        model.body.weight[:, 2] = 0
    assert live_masks(model, (4,))["gate.weight"].all()
    notes = measure(model, (4,), effective=True).notes
    assert notes == ("gate: liveness could not be decided: counted as alive",)


class Scaled(nn.Module):
    """A block with a parameter of its own beside its layer, as the scales of ConvNeXt's blocks."""

    def __init__(self, before: bool) -> None:
        super().__init__()
        self.inside, self.scale, self.before = nn.Linear(6, 6), nn.Parameter(torch.full((6,), 0.5)), before

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(self.scale * x) if self.before else x + self.scale * self.inside(x)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("pruned", [0, 2])
def test_a_blocks_own_parameters_see_what_lives_in_front_of_it(before: bool, pruned: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Scaled(before), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight[:pruned], model[0].bias[:pruned] = 0, 0
    rows = {layer.name: layer for layer in measure(model, (4,), effective=True).layers}
    assert rows["2"].output_bits == 6 and rows["2"].parameters == 6
    assert rows["2"].input_bits == rows["2"].capacity_bits == rows["2.inside"].input_bits == 6 - pruned
