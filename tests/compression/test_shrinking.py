"""shrink(): golden sizes, equal outputs, coupled layers, files that load in a fresh process."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from analysis.lab.models import create
from capacity import InputError, dense_capacity, measure
from compression.criteria import L1, L2, Random, Reservoir
from compression.pruning import prune
from compression.shrinking import load_shrunk, save_shrunk, shrink


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("googlenet", 6_402_564, 4_089_523),
        ("vgg16bn", 34_015_396, 21_796_597),
        ("resnet18", 11_220_132, 7_159_260),
    ],
)
@pytest.mark.parametrize("criterion", [None, L1(center="zero")])
def test_golden_sizes_at_twenty_percent(name: str, before: int, after: int, criterion) -> None:
    model = create(name, input_size=(3, 32, 32), classes=100)
    result = shrink(model, (3, 32, 32), amount=0.2, criterion=criterion)
    assert (result.parameters_before, result.parameters_after) == (before, after)
    assert sum(p.numel() for p in model.parameters()) == before
    assert result.model(torch.randn(2, 3, 32, 32)).shape == (2, 100)
    assert "-> " in str(result) and result.requested == 0.2 and 0.19 < result.achieved < 0.22


@pytest.mark.parametrize(
    "name", ["torchvision:densenet121", "torchvision:mobilenet_v2", "torchvision:resnet50"]
)
def test_other_graphs(name: str) -> None:
    model = create(name, classes=10)
    result = shrink(model, (3, 64, 64), amount=0.3)
    assert result.parameters_after < 0.8 * result.parameters_before
    assert result.model.eval()(torch.randn(2, 3, 64, 64)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "size"), [("lenet300", (1, 28, 28)), ("lenet5", (1, 28, 28)), ("mlp", (1, 8, 8))]
)
def test_removing_silent_units_changes_nothing(name: str, size: tuple[int, ...]) -> None:
    model = create(name, input_size=size, classes=10)
    masked = prune(model, L1(), amount=0.3, unit="neuron").model
    result = shrink(masked, size)
    x = torch.randn(5, *size)
    assert torch.allclose(result.model(x), masked(x), atol=1e-5)
    assert result.largest_difference is not None and result.largest_difference < 1e-5
    small = measure(result.model, size)
    assert small.capacity_bits == measure(masked, size, effective=True).capacity_bits
    assert result.parameters_after == small.total_parameters < result.parameters_before


def test_the_shrunk_net_is_the_smaller_net() -> None:
    model = create("lenet300", input_size=(1, 28, 28), classes=10)
    result = shrink(prune(model, L2(), amount=100, unit="neuron", layers=["1"]).model, (1, 28, 28))
    assert measure(result.model, (1, 28, 28)).capacity_bits == dense_capacity(784, [200, 100, 10])
    assert [(layer.name, layer.before, layer.after) for layer in result.layers] == [
        ("1", 300, 200),
        ("3", 100, 100),
    ]


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.last(x + torch.relu(self.inner(x)))


def test_a_unit_goes_only_where_all_coupled_units_are_silent() -> None:
    model = Shortcut()
    with torch.no_grad():
        for layer, units in ((model.first, [0, 1, 2]), (model.inner, [1, 2, 3])):
            layer.weight[units] = 0
            layer.bias[units] = 0
    result = shrink(model, (4,))
    assert {layer.name: layer.after for layer in result.layers} == {"first": 4, "inner": 4}
    x = torch.randn(7, 4)
    assert torch.allclose(result.model(x), model(x), atol=1e-6)


def test_a_channel_that_batch_norm_keeps_alive_stays() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten())
    masked = prune(model, L1(), amount=2, unit="neuron", layers=["0"]).model
    with torch.no_grad():
        masked[1].bias.fill_(1)
    with pytest.raises(InputError, match="no unit can be removed"):
        shrink(masked, (1, 8, 8))


def test_named_layers_and_outputs_keep_their_units() -> None:
    model = create("lenet300", input_size=(1, 28, 28), classes=10)
    result = shrink(model, (1, 28, 28), amount=0.5, keep=["1"])
    assert (result.model[1].out_features, result.model[3].out_features, result.model[5].out_features) == (
        300,
        50,
        10,
    )


@pytest.mark.parametrize("criterion", [Random(1), Reservoir(1), L2(), torch.abs])
def test_the_criterion_decides_which_units_go(criterion) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    one, two = (shrink(model, (3,), amount=0.5, criterion=criterion).model for _ in range(2))
    assert torch.equal(one[0].weight, two[0].weight) and one[0].weight.shape == (4, 3)
    rows = {tuple(row) for row in model[0].weight.tolist()}
    assert {tuple(row) for row in one[0].weight.tolist()} <= rows


def test_a_fresh_process_loads_the_same_outputs(tmp_path) -> None:
    model = create("googlenet", input_size=(3, 32, 32), classes=10)
    small = shrink(model, (3, 32, 32), amount=0.4).model.eval()
    x = torch.randn(2, 3, 32, 32)
    save_shrunk(small, tmp_path / "small.safetensors")
    torch.save({"x": x, "y": small(x).detach()}, tmp_path / "example.pt")
    code = (
        "import sys, torch\n"
        "from analysis.lab.models import create\n"
        "from compression.shrinking import load_shrunk\n"
        "folder = sys.argv[1]\n"
        "kept = torch.load(folder + '/example.pt', weights_only=True)\n"
        "model = create('googlenet', input_size=(3, 32, 32), classes=10)\n"
        "small = load_shrunk(model, folder + '/small.safetensors').eval()\n"
        "print(torch.equal(small(kept['x']), kept['y']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    with pytest.raises(InputError, match="another architecture"):
        load_shrunk(create("resnet18", classes=10), tmp_path / "small.safetensors")
    (tmp_path / "small.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="is damaged"):
        load_shrunk(model, tmp_path / "small.safetensors")


@pytest.mark.parametrize("amount", [0.0, 1.0, -0.1, 2])
def test_bad_input(amount: float) -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="between 0 and 1"):
        shrink(model, (3,), amount=amount)
    with pytest.raises(InputError, match="unknown layer to keep"):
        shrink(model, (3,), amount=0.5, keep=["4"])
    with pytest.raises(InputError, match="no unit can be removed"):
        shrink(model, (3,))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
