"""shrink(): golden sizes, equal outputs, coupled layers, files that load in a fresh process."""

import copy

import pytest
import torch
from running import run_script
from torch import Tensor, nn

from analysis.lab.models import create
from capacity import InputError, dense_capacity, measure
from capacity.attention import Projections, unpack_attention
from capacity.cloning import clone
from compression.costs import flops
from compression.criteria import L1, L2, Random, Reservoir
from compression.masks import masks_of
from compression.pruning import prune
from compression.shrinking import load_shrunk, save_shrunk, shrink
from compression.shrinking.coupling import coupled_layers
from compression.shrinking.silencing import mask_dead_norm_channels


@pytest.mark.parametrize(
    ("name", "before", "after", "criterion"),
    [
        ("googlenet", 6_402_564, 4_089_523, None),
        ("vgg16bn", 34_015_396, 21_796_597, L1(center="zero")),
        ("resnet18", 11_220_132, 7_159_260, None),
        ("resnet18", 11_220_132, 7_159_260, L1(center="zero")),
    ],
)
def test_golden_sizes_at_twenty_percent(name: str, before: int, after: int, criterion) -> None:
    model = create(name, input_size=(3, 32, 32), classes=100)
    result = shrink(model, (3, 32, 32), amount=0.2, criterion=criterion)
    assert (result.parameters_before, result.parameters_after) == (before, after)
    assert sum(p.numel() for p in model.parameters()) == before
    assert result.model(torch.randn(2, 3, 32, 32)).shape == (2, 100)
    assert "-> " in str(result) and result.requested == 0.2 and 0.19 < result.achieved < 0.22


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("torchvision:densenet121", marks=pytest.mark.slow),
        "torchvision:mobilenet_v2",
        "torchvision:resnet50",
    ],
)
def test_other_graphs(name: str) -> None:
    model = create(name, classes=10)
    result = shrink(model, (3, 64, 64), amount=0.3)
    assert result.parameters_after < 0.8 * result.parameters_before
    assert result.model.eval()(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_fire_modules_lose_channels() -> None:
    model = create("student_v6", input_size=(3, 32, 32), classes=100)
    result = shrink(model, (3, 32, 32), amount=0.2)
    assert result.parameters_after < 0.8 * result.parameters_before
    assert result.model(torch.randn(2, 3, 32, 32)).shape == (2, 100)


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
    done = run_script(code, str(tmp_path))
    assert done.stdout.strip() == "True", done.stderr
    with pytest.raises(InputError, match="another architecture"):
        load_shrunk(create("resnet18", classes=10), tmp_path / "small.safetensors")
    (tmp_path / "small.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="is damaged"):
        load_shrunk(model, tmp_path / "small.safetensors")


def vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
    )


BLOCK = "encoder.layers.encoder_layer_0"


def test_transformers_lose_heads_hidden_units_and_embedding(tmp_path) -> None:
    model, x = vit(), torch.randn(2, 3, 32, 32)
    result = shrink(model, (3, 32, 32), amount=0.25)
    assert {(layer.before, layer.after) for layer in result.layers} == {(32, 24), (64, 48)}
    attention = result.model.get_submodule(f"{BLOCK}.self_attention")
    assert attention.num_heads == 3 and attention.q_proj.out_features == 24  # a whole head of 8
    save_shrunk(result.model, tmp_path / "vit.safetensors")
    again = load_shrunk(vit(), tmp_path / "vit.safetensors").eval()
    assert torch.equal(again(x), result.model.eval()(x))


def test_a_criterion_scores_a_flattened_channel_by_all_its_columns() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    with torch.no_grad():
        net[0].weight.fill_(0.1)
        net[3].weight.view(2, 6, 16)[:, [1, 4]] *= 0.01
    small = shrink(net, (1, 6, 6), amount=0.3, criterion=L1(center="zero")).model
    kept = net[3].weight.view(2, 6, 16)[:, [0, 2, 3, 5]].flatten(1)
    assert torch.equal(small[3].weight, kept)


def test_units_of_transformers_are_rounded() -> None:
    result = shrink(vit(), (3, 32, 32), amount=0.3, round_to=8)
    assert {(layer.before, layer.after) for layer in result.layers} == {(32, 24), (32, 16), (64, 48)}
    assert not result.left_out
    assert {layer.after for layer in shrink(vit(), (3, 32, 32), amount=0.3).layers} == {22, 16, 44}


def test_channels_are_rounded_where_they_can_be_and_it_is_told_where_not() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 20, 3), nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 12, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(300, 30), nn.ReLU(), nn.Linear(30, 2),
    )  # fmt: skip
    result = shrink(net, (3, 9, 9), amount=0.2, round_to=8)
    assert {n.name: (n.before, n.after) for n in result.layers} == {
        "0": (20, 16), "3": (12, 12), "6": (30, 24)
    }  # fmt: skip
    assert result.left_out == {"3": "no multiple of 8 lies between 10 and 11 units"}
    with pytest.raises(InputError, match=r"layer '3' of 12 units lost none .* no multiple of 8"):
        shrink(net, (3, 9, 9), amount={"3": 0.2}, round_to=8)
    with pytest.raises(InputError, match="round_to must be a whole number of at least 1, found 0"):
        shrink(net, (3, 9, 9), amount=0.3, round_to=0)
    with pytest.raises(InputError, match="round_to needs an amount"):
        shrink(net, (3, 9, 9), round_to=8)


def test_the_head_removed_is_the_weakest_one_and_its_outputs_were_zero() -> None:
    model, x = vit().eval(), torch.randn(2, 3, 32, 32)
    packed = model.get_submodule(f"{BLOCK}.self_attention")
    with torch.no_grad():  # head 2 emits nothing and is read by nobody
        for start in (0, 32, 64):
            packed.in_proj_weight[start + 16 : start + 24] = 0
            packed.in_proj_bias[start + 16 : start + 24] = 0
        packed.out_proj.weight[:, 16:24] = 0
        packed.out_proj.weight[:, [0, 8, 24]] = 1
    expected = model(x)
    small = shrink(model, (3, 32, 32), amount={f"{BLOCK}.self_attention.q_proj": 0.25})
    assert small.model.get_submodule(f"{BLOCK}.self_attention").num_heads == 3
    assert torch.allclose(small.model.eval()(x), expected, atol=1e-5)
    other = small.model.get_submodule("encoder.layers.encoder_layer_1.self_attention")
    assert other.num_heads == 4


def test_an_attention_written_with_dense_layers_loses_heads_too() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_heads, self.qkv, self.proj = 4, nn.Linear(16, 48), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, 4).permute(2, 0, 3, 1, 4)
            mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
            return self.proj(mixed.transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), Attention(), nn.Flatten(), nn.Linear(6 * 16, 3))
    small = shrink(model, (6, 5), amount={"1.qkv": 0.5}).model
    assert small[1].num_heads == 2 and small[1].qkv.weight.shape == (24, 16)
    assert small(torch.randn(2, 6, 5)).shape == (2, 3)


def test_amounts_per_layer_hold_for_coupled_layers() -> None:
    model = create("resnet18", classes=10)
    groups = coupled_layers(model, (3, 32, 32))
    shared = next(group for group in groups if "stage1_0.second.0" in group)
    assert set(shared) == {"stem.0", "stage1_0.second.0", "stage1_1.second.0"}
    assert "classifier" not in {name for group in groups for name in group}
    after = {
        layer.name: layer.after
        for layer in shrink(model, (3, 32, 32), amount={"stem.0": 0.5, "stage2_0.first.0": 0.25}).layers
    }
    assert {after[name] for name in shared} == {32} and after["stage2_0.first.0"] == 96
    assert after["stage3_0.first.0"] == 256


def test_batch_norms_are_silenced_behind_masked_channels_and_both_go() -> None:
    torch.manual_seed(0)
    model = create("resnet18", classes=10).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias)
            nn.init.uniform_(module.running_mean)
    masked = prune(model, L1(), amount=0.25, unit="neuron", layers=["stage1_0.first.0", "stem.0"]).model
    with pytest.raises(InputError, match="mask_dead_norm_channels"):
        shrink(masked, (3, 32, 32))
    quiet, x = mask_dead_norm_channels(masked, (3, 32, 32)).eval(), torch.randn(2, 3, 32, 32)
    norm = quiet.get_submodule("stage1_0.first.1")
    assert int((norm.bias == 0).sum()) == 16 and int((norm.weight == 0).sum()) == 16
    small = shrink(quiet, (3, 32, 32))
    after = {layer.name: layer.after for layer in small.layers}
    assert after["stage1_0.first.0"] == 48 and after["stem.0"] == 64  # the shortcut keeps the stem's
    assert torch.allclose(small.model(x), quiet(x), atol=1e-4)
    trained = mask_dead_norm_channels(create("resnet18", classes=10), (3, 32, 32))
    assert not masks_of(trained)


def test_a_norm_behind_a_shortcut_keeps_what_one_branch_keeps() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 1)
            self.norm, self.last = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.norm(self.first(x) + self.second(x))))

    masked = prune(Block(), L1(), amount=2, unit="neuron", layers=["first"]).model
    assert "norm.weight" not in masks_of(mask_dead_norm_channels(masked, (1, 4, 4)))
    with torch.no_grad():
        masked.second.weight.copy_(masked.first.weight.abs())
    both = prune(masked, L1("zero"), amount=2, unit="neuron", layers=["second"]).model
    assert int(masks_of(mask_dead_norm_channels(both, (1, 4, 4)))["norm.weight"].sum()) == 2


def test_what_cannot_be_removed_is_named() -> None:
    mobile = create("torchvision:mobilenet_v2", classes=10)
    small = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(InputError, match="'2' cannot lose units: its units are the model's outputs"):
        shrink(small, (3,), amount={"2": 0.5})
    with pytest.raises(InputError, match=r"found 1\.5 of type float for layer '0'"):
        shrink(small, (3,), amount={"0": 1.5})
    with pytest.raises(InputError, match="unknown layer to shrink"):
        shrink(small, (3,), amount={"1": 0.5})
    with pytest.raises(InputError, match="nothing was removed"):
        shrink(nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2)), (3,), amount=0.5)
    with pytest.raises(InputError, match="lose units together: one amount"):
        shrink(mobile, (3, 32, 32), amount={"features.1.conv.0.0": 0.5, "features.0.0": 0.25})


class Shared(nn.Module):
    """A language model in small: the embedding is tied to the output, and the middle layer runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.inner, self.out = nn.Embedding(20, 8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.twice, self.head = nn.Linear(8, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        x = x + self.out(torch.relu(self.inner(x)))
        return self.head(self.twice(torch.relu(self.twice(x))))


def test_tied_and_reused_layers_hold_what_is_coupled_to_them(tmp_path) -> None:
    model, tokens = Shared(), torch.arange(6).view(2, 3)
    small = shrink(model, tokens, amount=0.5)
    assert {layer.name: (layer.before, layer.after) for layer in small.layers} == {"inner": (16, 8)}
    assert small.model.head.weight is small.model.tokens.weight
    save_shrunk(small.model, tmp_path / "small.safetensors")
    again = load_shrunk(Shared(), tmp_path / "small.safetensors")
    assert again.head.weight is again.tokens.weight and torch.equal(again(tokens), small.model(tokens))
    with pytest.raises(InputError, match=r"'out' cannot lose units: 'twice' is used 2 times in one pass"):
        shrink(model, tokens, amount={"out": 0.5})
    with pytest.raises(InputError, match=r"'twice' cannot lose units: .*(used 2 times|is tied to)"):
        shrink(model, tokens, amount={"twice": 0.5})


@pytest.mark.parametrize("groups", [2, 8])
def test_grouped_convolutions_lose_what_their_groups_allow(groups: int) -> None:
    torch.manual_seed(0)
    grouped = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=groups),
        nn.Conv2d(8, 3, 1), nn.Flatten(), nn.Linear(48, 2),
    )  # fmt: skip
    small = shrink(grouped, (3, 8, 8), amount=0.5).model
    assert small[0].out_channels == small[2].in_channels == 4 and small[2].out_channels == 4
    assert small[2].groups in (groups, groups // 2) and small(torch.randn(2, 3, 8, 8)).shape == (2, 2)
    with pytest.raises(InputError, match=r"of 1 units lost none to an amount of 0\.5"):
        shrink(nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2)), (2,), amount={"0": 0.5})


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).reshape(-1, 8))


def test_a_width_written_into_the_forward_pass_is_found() -> None:
    with pytest.raises(InputError, match=r"counts on a width that changed.*keep="):
        shrink(Fixed(), (3,), amount=0.5)


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


def test_attention_runs_in_torchs_kernel_and_counts_as_before(tmp_path) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    model, size = nn.Sequential(layer, nn.Flatten(), nn.Linear(32 * 6, 5)).eval(), (6, 32)
    small = shrink(model, size, amount=0.25).model.eval()
    save_shrunk(small, tmp_path / "small.safetensors")
    loaded = load_shrunk(model, tmp_path / "small.safetensors").eval()
    by_step, x = unpack_attention(clone(small)), torch.randn(3, *size)
    networks = (small, loaded, by_step)
    fused = [[m.fused for m in net.modules() if isinstance(m, Projections)] for net in networks]
    assert fused == [[True], [True], [False]]
    with torch.no_grad():
        outputs = [net(x) for net in networks]
    assert outputs[0].std() > 0.1 and outputs[0].equal(outputs[1])
    torch.testing.assert_close(outputs[0], outputs[2], atol=1e-6, rtol=1e-5)
    assert measure(small, size, effective=True).capacity_bits == measure(
        by_step, size, effective=True
    ).capacity_bits > 0  # fmt: skip
    assert flops(small, size) == flops(by_step, size)
