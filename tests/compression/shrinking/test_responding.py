"""Units found by what responds to them: golden groups, the graph's own groups, and what it cannot follow."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from compression.shrinking import load_shrunk, save_shrunk, shrink
from compression.shrinking.coupling import coupled_layers
from compression.shrinking.responding import Responses, responding_groups


class Gated(nn.Module):
    """A gated unit around a shortcut behind a norm, which returns a cache that no graph can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(8, 20), nn.Linear(8, 20), nn.Linear(20, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, object]:
        x = self.norm(x + self.down(nn.functional.silu(self.gate(x)) * self.up(x)))
        return OrderedDict(logits=self.head(x), past_key_values=(object(),))


def groups(model: nn.Module, size: tuple[int, ...], locked: tuple[str, ...]) -> list[dict[str, list[int]]]:
    names = {module: name for name, module in model.named_modules()}
    found = responding_groups(Responses(model.eval(), (torch.randn(1, *size),), {}, locked), 0.5)
    return [
        {f"{names[s.module]}:{'out' if 'out' in s.handler.__name__ else 'in'}": p for s, p in group}
        for group in found
    ]


def test_a_gated_unit_loses_both_producers_and_the_columns_that_read_them() -> None:
    (group,) = groups(Gated(), (8,), ("head",))
    assert group.keys() == {"gate:out", "up:out", "down:in"}
    assert group["gate:out"] == group["up:out"] == group["down:in"]
    assert len(group["down:in"]) == 10


def test_channels_flatten_into_blocks_of_columns() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    (group,) = groups(net, (1, 4, 4), ("4",))
    gone = group["0:out"]
    assert group["1:out"] == gone and group["4:in"] == [4 * u + k for u in gone for k in range(4)]


def test_layers_go_together_as_torch_pruning_says() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2),
    )  # fmt: skip
    ours = {
        tuple(key[:-4] for key in group if key in ("0:out", "4:out", "7:out"))
        for group in groups(net, (3, 9, 9), ("9",))
    }
    theirs = {tuple(n for n in names if n != "3") for names in coupled_layers(net, (3, 9, 9))}
    assert ours == theirs == {("0",), ("4",), ("7",)}


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
    assert groups(net, (4,), ("2",)) == []


def test_a_parametrized_network_reloads_in_a_fresh_one(tmp_path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 10)), nn.ReLU(), nn.Linear(10, 2))

    small = shrink(make(), (4,), amount=0.2).model
    save_shrunk(small, tmp_path / "small")
    x = torch.randn(3, 4)
    assert torch.equal(load_shrunk(make(), tmp_path / "small")(x), small(x))
