"""Units found by what responds to them: golden groups, the graph's own groups, and what it cannot follow."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from analysis.lab.models.language import RotaryAttention
from compression.shrinking import load_shrunk, save_shrunk, shrink
from compression.shrinking.components import families
from compression.shrinking.coupling import coupled_layers
from compression.shrinking.repetition import Network


class Gated(nn.Module):
    """A gated unit around a shortcut behind a norm, which returns a cache that no graph can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(8, 20), nn.Linear(8, 20), nn.Linear(20, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, object]:
        x = self.norm(x + self.down(nn.functional.silu(self.gate(x)) * self.up(x)))
        return OrderedDict(logits=self.head(x), past_key_values=(object(),))


def components(model: nn.Module, size: tuple[int, ...], kept: str) -> list[list[dict[str, list[int]]]]:
    """For each family, its components: places by parameter and dimension."""
    network = Network(model.eval(), (torch.randn(2, *size),), {})
    return [
        [
            {
                f"{name}:{dimension}": sorted(place for axis, place in component if axis == (name, dimension))
                for name, dimension in sorted({axis for axis, _ in component})
            }
            for component in family.components
        ]
        for family in families(network, lambda axis: axis.name.startswith(kept))
    ]


def test_a_gated_unit_is_both_producers_and_the_column_that_reads_them() -> None:
    (family,) = components(Gated(), (8,), "head")
    names = ("gate.bias:0", "gate.weight:0", "up.bias:0", "up.weight:0", "down.weight:1")
    assert family == [{name: [unit] for name in sorted(names)} for unit in range(20)]


def test_heads_that_a_table_of_angles_turns_go_one_by_one() -> None:
    net = nn.Sequential(nn.Linear(6, 24), RotaryAttention(24, 3, 5), nn.Linear(24, 2))
    heads = components(net, (5, 6), "2")[-1]
    places = [list(range(8 * head, 8 * head + 8)) for head in range(3)]
    parts = ("keys.weight:0", "outputs.weight:1", "queries.weight:0", "values.weight:0")
    assert heads == [{f"1.{part}": some for part in parts} for some in places]
    small = shrink(net, (5, 6), amount=0.34).model
    assert small(torch.randn(2, 5, 6)).shape == (2, 5, 2)
    assert small.get_submodule("1").queries.out_features == 16 and small.get_submodule("1").heads == 2


def test_channels_flatten_into_blocks_of_columns() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    (family,) = components(net, (1, 4, 4), "4")
    assert len(family) == 4
    for unit, component in enumerate(family):
        assert component["0.weight:0"] == component["1.weight:0"] == component["1.running_mean:0"] == [unit]
        assert component["4.weight:1"] == [4 * unit + k for k in range(4)]


def test_layers_go_together_as_torch_pruning_says() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2),
    )  # fmt: skip
    ours = {
        tuple(k[0] for k in family[0] if k in ("0.weight:0", "4.weight:0", "7.weight:0"))
        for family in components(net, (3, 9, 9), "9")
    }
    theirs = {tuple(n for n in names if n != "3") for names in coupled_layers(net, (3, 9, 9))}
    assert ours == theirs == {("0",), ("4",), ("7",)}


def test_gates_of_a_recurrent_layer_go_with_its_unit() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.lstm(x)[0])

    (family,) = components(Tagger(), (5, 4), "out")
    assert len(family) == 6
    for unit, component in enumerate(family):
        assert component["lstm.weight_hh_l0:0"] == [unit + 6 * gate for gate in range(4)]
        assert component["lstm.weight_hh_l0:1"] == component["out.weight:1"] == [unit]


def test_heads_are_one_component_each() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 4, 2).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-1, -2)).softmax(-1)
            return self.head(self.out((weights @ v).transpose(1, 2).flatten(2)))

    found = [f for f in components(Attention(), (5, 8), "head") if "qkv.weight:0" in f[0]]
    (family,) = found
    assert [component["out.weight:1"] for component in family] == [[2 * h, 2 * h + 1] for h in range(4)]
    assert family[1]["qkv.weight:0"] == [2, 3, 10, 11, 18, 19]


def test_experts_packed_in_one_parameter_lose_hidden_units_of_all() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into = nn.Parameter(torch.randn(3, 4, 10))
            self.back = nn.Parameter(torch.randn(3, 10, 4))
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.bmm(torch.bmm(x.expand(3, *x.shape), self.into).relu(), self.back).sum(0))

    (family,) = [f for f in components(Experts(), (4,), "head") if "into:2" in f[0]]
    assert family == [{"back:1": [unit], "into:2": [unit]} for unit in range(10)]
    small = shrink(Experts(), (4,), amount=0.2).model
    assert small.into.shape == (3, 4, 8) and small.back.shape == (3, 8, 4)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_that_the_graph_cannot_follow_is_smaller_and_reloads(tmp_path, seed: int) -> None:
    torch.manual_seed(seed)
    model = Gated()
    result = shrink(model, (8,), amount=0.2)
    assert [(n.name, n.after) for n in result.layers if n.after < n.before] == [("gate", 16), ("up", 16)]
    save_shrunk(result.model, tmp_path / "small")
    x = torch.randn(4, 8)
    again = load_shrunk(Gated(), tmp_path / "small")
    assert torch.equal(again(x)["logits"], result.model(x)["logits"])


def test_what_a_layer_norm_mixes_stays() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    assert components(net, (4,), "2") == []


def test_a_parametrized_network_reloads_in_a_fresh_one(tmp_path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 10)), nn.ReLU(), nn.Linear(10, 2))

    small = shrink(make(), (4,), amount=0.2).model
    save_shrunk(small, tmp_path / "small")
    x = torch.randn(3, 4)
    assert torch.equal(load_shrunk(make(), tmp_path / "small")(x), small(x))


def test_units_that_sleep_are_found() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        net[0].bias.fill_(-50)
        net[2].running_mean.fill_(50)
    (family,) = components(net, (4,), "4")
    assert [component["4.weight:1"] for component in family] == [[unit] for unit in range(6)]


class Selective(nn.Module):
    """Two halves that gate each other, scaled by what a third layer makes of one of them, as a state is."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.scale, self.out = nn.Linear(8, 24), nn.Linear(12, 3), nn.Linear(12, 2)
        self.step = nn.Linear(2, 12)

    def forward(self, x: Tensor) -> Tensor:
        held, gate = self.into(x).chunk(2, -1)
        scale = self.scale(held)
        return self.out((held + self.step(scale[..., :2])) * gate.sigmoid() * scale[..., 2:])


def test_a_layer_that_moves_all_keeps_its_units_and_those_beside_it_go() -> None:
    (family,) = components(Selective(), (8,), "out")
    assert family == [
        {
            "into.bias:0": [unit, unit + 12],
            "into.weight:0": [unit, unit + 12],
            "out.weight:1": [unit],
            "scale.weight:1": [unit],
            "step.bias:0": [unit],
            "step.weight:0": [unit],
        }
        for unit in range(12)
    ]


class SharedShift(nn.Module):
    """Two layers of plain parameters that add one shift."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(n, 10)) for n in (4, 10)])
        self.shift, self.head = nn.Parameter(torch.randn(10)), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = torch.relu(x @ weight + self.shift)
        return self.head(x)


def test_layers_that_share_a_shift_lose_the_same_units(tmp_path) -> None:
    torch.manual_seed(0)
    model = SharedShift()
    small = shrink(model, (4,), amount=0.2).model
    assert [tuple(w.shape) for w in small.weights] == [(4, 8), (8, 8)] and small.shift.shape == (8,)
    save_shrunk(small, tmp_path / "small")
    x = torch.randn(3, 4)
    assert torch.equal(load_shrunk(SharedShift(), tmp_path / "small")(x), small(x))


class Language(nn.Module):
    """A block as Llama has it: grouped queries, gated units, norms by the root mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norms = nn.Embedding(50, 32), nn.ModuleList(nn.RMSNorm(32) for _ in range(2))
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 16), nn.Linear(32, 16)
        self.o, self.gate, self.up, self.down = (
            nn.Linear(a, b) for a, b in ((32, 32), (32, 44), (32, 44), (44, 32))
        )
        self.head = nn.Linear(32, 50)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        q, k, v = (layer(self.norms[0](x)).unflatten(-1, (-1, 8)) for layer in (self.q, self.k, self.v))
        k, v = (t.repeat_interleave(q.shape[2] // t.shape[2], 2).transpose(1, 2) for t in (k, v))
        x = x + self.o((q.transpose(1, 2) @ k.mT).softmax(-1).matmul(v).transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        return self.head(x + self.down(nn.functional.silu(self.gate(y)) * self.up(y)))


class Recurrent(nn.Module):
    """A GRU over vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(6, 20, batch_first=True), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


def test_units_of_language_models_and_recurrent_layers_are_rounded() -> None:
    torch.manual_seed(0)
    model, ids = Language(), torch.randint(50, (1, 7))
    result = shrink(model, ids, amount=0.25, round_to=8)
    sizes = {layer.name: layer.after for layer in result.layers}
    assert sizes["gate"] == sizes["up"] == 40 and sizes["q"] == 32  # 33 would be left of 44
    assert result.model(ids).shape == (1, 7, 50)
    assert shrink(model, ids, amount=0.25).model.gate.out_features == 33
    sizes = [shrink(Recurrent(), (7, 6), amount=0.25, round_to=n).model.gru.hidden_size for n in (1, 8)]
    assert sizes == [15, 16]


class ThriceTied(nn.Module):
    """A table that two heads read too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.body = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.one, self.two = nn.Linear(8, 20, bias=False), nn.Linear(8, 20, bias=False)
        self.one.weight = self.two.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.relu(self.body(self.table(ids)))
        return self.one(hidden) + self.two(hidden)


def test_every_layer_of_a_tie_knows_its_size(tmp_path) -> None:
    torch.manual_seed(0)
    ids = torch.arange(5)
    small = shrink(ThriceTied(), ids, amount=0.25).model
    assert (small.table.embedding_dim, small.one.in_features, small.two.in_features) == (6, 6, 6)
    assert small.one.weight is small.two.weight is small.table.weight
    save_shrunk(small, tmp_path / "small")
    assert torch.equal(load_shrunk(ThriceTied(), tmp_path / "small")(ids), small(ids))
