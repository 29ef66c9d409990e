"""Each layer family by hand; every torchvision network; models that are hard to measure."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvisions import every_network
from weightless import OnMeta

from capacity import RULES, InputError, measure


def bits(report) -> dict[str, int]:
    return {layer.name: layer.capacity_bits for layer in report.layers if layer.kind != "normalization"}


class Inception(nn.Module):
    """Two branches over one stem, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (
            nn.Conv2d(1, 2, 3, padding=1),
            nn.Conv2d(2, 3, 1),
            nn.Conv2d(2, 2, 3, padding=1),
        )
        self.last = nn.Conv2d(5, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x), inplace=True), 2)
        return self.last(torch.cat([self.one(x), self.two(x)], 1))


class Block(nn.Module):
    """A residual block with a projected shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1, bias=False)
        self.a, self.b = nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        self.norm, self.shortcut, self.fc = (
            nn.BatchNorm2d(4),
            nn.Conv2d(2, 4, 1, 2, bias=False),
            nn.Linear(4, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.norm(self.b(F.relu(self.a(x)))) + self.shortcut(x))
        return self.fc(x.mean((2, 3)))


class LastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (
            nn.LSTM(3, 4, batch_first=True),
            nn.GRU(4, 2, batch_first=True, bidirectional=True),
        )
        self.out = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.two(self.one(x)[0])[0][:, -1])


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(3, 2, 2, 2), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x).relu()
        return self.out(torch.cat([skip, self.up(self.deep(F.max_pool2d(skip, 2)).relu())], 1))


class Tied(nn.Module):
    """The decoder is the encoder's weight, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.shift = nn.Linear(6, 3, bias=False), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.shift(F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.t()))


def transformer() -> nn.Sequential:
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    return nn.Sequential(nn.Linear(3, 4), nn.TransformerEncoder(layer, 1, enable_nested_tensor=False))


depthwise = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, groups=2), nn.ReLU6(True), nn.Conv2d(2, 40, 1))
language = nn.Sequential(nn.Embedding(7, 4, padding_idx=0), nn.LayerNorm(4), nn.Linear(4, 7))


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        # 4x4x2 = 32 bits leave the pool; the branches emit 48 and 32.
        (Inception(), (1, 8, 8), {"stem": 20, "one": 9, "two": 32, "last": 6}),
        # 8x8x2 bits enter a and the shortcut, 4x4x4 enter b; the mean leaves 4.
        (Block(), (1, 8, 8), {"stem": 2, "a": 72, "b": 64, "shortcut": 8, "fc": 4}),
        (depthwise, (2, 4, 4), {"0": 20, "2": 32}),
        # LSTM 4·(4·(3 + 4) + 2·4); 5 steps of 4 bits enter the GRU, 4 bits enter out.
        (LastStep(), (5, 3), {"one": 144, "two": 20, "out": 4}),
        (
            transformer(),
            (5, 3),
            {"0": 16} | {f"1.layers.0.self_attn.{p}_proj": 20 for p in ("q", "k", "v", "out")}
            | {"1.layers.0.linear1": 20, "1.layers.0.linear2": 28},
        ),
        (UNet(), (1, 8, 8), {"down": 20, "deep": 32, "up": 26, "out": 5}),
        (Tied(), (6,), {"encoder": 18, "shift": 6}),
        (language, torch.zeros(1, 5, dtype=torch.long), {"0": 28, "2": 20}),
    ],
    ids=["inception", "resnet", "depthwise", "recurrent", "transformer", "unet", "tied", "language"],
)  # fmt: skip
def test_each_family_by_hand(model: nn.Module, size, expected: dict[str, int]) -> None:
    report = measure(model, size)
    assert bits(report) == expected and report.capacity_bits == sum(expected.values())
    assert report.total_parameters == sum(p.numel() for p in model.parameters()) == report.parameters
    running, uncapped = (measure(model, size, convention=c).capacity_bits for c in ("running", "uncapped"))
    assert running <= report.capacity_bits <= uncapped
    live = measure(model, size, effective=True)
    assert live.capacity_bits <= report.capacity_bits and live.total_parameters == report.total_parameters


def test_packed_attention_counts_as_attention_written_with_dense_layers() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(3, 8)
            self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
            return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.attention = nn.Linear(3, 8), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            return self.attention(x, x, x)[0]

    one, two = measure(Written(), (6, 3)), measure(Packed(), (6, 3))
    assert list(bits(one).values()) == list(bits(two).values())
    assert measure(Packed(), (6, 3), scope=["attention"]).parameters == 4 * 72

    def whole(module: nn.Module, parameters: dict[str, int]) -> int:
        return sum(parameters.values())

    mine = measure(Packed(), (6, 3), rules={**RULES, nn.MultiheadAttention: whole})
    assert bits(mine) == {"embed": 32, "attention": min(288, 48)}


@pytest.mark.parametrize("options", [{}, {"kdim": 5, "vdim": 3}, {"bias": False}, {"add_bias_kv": True}])
@pytest.mark.parametrize("batch_first", [True, False])
def test_every_kind_of_packed_attention_keeps_its_parameters(options: dict, batch_first: bool) -> None:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first, **options)

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.attention(q, k, v, need_weights=False)[0]

    sizes = [(4, 8), (6, options.get("kdim", 8)), (6, options.get("vdim", 8))]
    if not batch_first:  # the axis that is not named is the number of samples here
        sizes = [torch.zeros(1, 4, 8).transpose(0, 1), *(torch.zeros(6, 1, width) for _, width in sizes[1:])]
    report = measure(Cross(), sizes)
    assert report.parameters == report.total_parameters == sum(p.numel() for p in Cross().parameters())


@every_network
@pytest.mark.filterwarnings("ignore")
def test_every_torchvision_classification_network(name: str) -> None:
    with OnMeta():
        model = models.get_model(name, weights=None).to("meta")
    size = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    running, previous, uncapped = (
        measure(model, size, convention=c) for c in ("running", "previous", "uncapped")
    )
    assert 0 < running.capacity_bits <= previous.capacity_bits <= uncapped.capacity_bits
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert previous.parameters == previous.total_parameters == parameters
    unreached = [layer.name for layer in previous.layers if "not reached" in layer.note]
    assert all(layer.startswith(("aux", "AuxLogits")) for layer in unreached)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("deeplabv3_mobilenet_v3_large", (3, 64, 64)),
        ("lraspp_mobilenet_v3_large", (3, 64, 64)),
        ("r3d_18", (3, 8, 56, 56)),
        ("mvit_v2_s", (3, 16, 224, 224)),
        ("s3d", (3, 16, 224, 224)),
        ("ssdlite320_mobilenet_v3_large", [[torch.rand(3, 64, 64)]]),
    ],
)
def test_segmentation_video_and_detection(name: str, size) -> None:
    hollow = not isinstance(size, list)
    with torch.device("meta" if hollow else "cpu"):
        options = {} if name in ("r3d_18", "mvit_v2_s", "s3d") else {"weights_backbone": None}
        model = models.get_model(name, weights=None, **options)
    report = measure(model, size)
    assert report.parameters == report.total_parameters == sum(p.numel() for p in model.parameters())
    assert hollow or "measured by a real forward pass" in str(report)


def test_what_a_network_cannot_take_is_said_by_name() -> None:
    with torch.device("meta"):
        model = models.get_model("s3d", weights=None)
    with pytest.raises(InputError, match=r"S3D cannot take an input of size \(3, 8, 32, 32\)"):
        measure(model, (3, 8, 32, 32))


class Decoder(nn.Module):
    """A decoder with grouped queries and gated layers, as large language models have them."""

    def __init__(self, depth: int, width: int, inner: int, rows: int) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(rows, width), nn.RMSNorm(width)
        self.blocks = nn.ModuleList(self.block(width, inner) for _ in range(depth))
        self.head = nn.Linear(width, rows, bias=False)

    @staticmethod
    def block(width: int, inner: int) -> nn.ModuleDict:
        sizes = {"q": (width, width), "k": (width, width // 8), "v": (width, width // 8), "o": (width, width)}
        sizes |= {"gate": (width, inner), "up": (width, inner), "down": (inner, width)}
        layers = {name: nn.Linear(*size, bias=False) for name, size in sizes.items()}
        return nn.ModuleDict(layers | {"norm1": nn.RMSNorm(width), "norm2": nn.RMSNorm(width)})

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.blocks:
            h = layer["norm1"](x)
            q, k, v = (layer[n](h).unflatten(-1, (-1, 128)).transpose(1, 2) for n in ("q", "k", "v"))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + layer["o"](mixed.transpose(1, 2).flatten(2))
            h = layer["norm2"](x)
            x = x + layer["down"](F.silu(layer["gate"](h)) * layer["up"](h))
        return self.head(self.norm(x))


def test_seventy_billion_parameters_without_memory() -> None:
    with torch.device("meta"):
        model = Decoder(80, 8192, 28672, 128_256).bfloat16()
    report = measure(model, torch.zeros(1, 64, dtype=torch.long))
    assert report.total_parameters == 70_553_706_496
    assert report.storage_bits == 16 * report.total_parameters
    assert report.layers[0].input_bits is None and bits(report)["head"] == 64 * 8192


def test_inputs_and_outputs_of_any_shape() -> None:
    Pair = namedtuple("Pair", "left right")

    @dataclass
    class Result:
        logits: Tensor
        hidden: tuple[Tensor, ...] | None = None

    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(2, 3), nn.Linear(4, 5), nn.Linear(8, 1)

        def forward(self, left: Tensor, *, right: Tensor) -> Result:
            pair = Pair(self.a(left), {"x": [self.b(right)]})
            both = torch.cat([pair.left, pair.right["x"][0]], 1)
            return Result(OrderedDict(y=self.out(both))["y"])

    expected = {"a": 9, "b": 25, "out": 8}
    assert bits(measure(Many(), {"left": (2,), "right": (4,)})) == expected

    class Two(Many):
        def forward(self, left: Tensor, right: Tensor) -> Result:  # type: ignore[override]
            return super().forward(left, right=right)

    assert bits(measure(Two(), [(2,), (4,)])) == expected
    assert bits(measure(Two(), [torch.ones(3, 2), torch.ones(3, 4)])) == expected


def test_a_layer_used_twice_counts_once_and_is_fed_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.again(self.again(self.first(x)).relu()).relu())

    # Two times 4 bits pass through `again`, which has 20 parameters.
    assert bits(measure(Twice(), (3,))) == {"first": 16, "again": 8, "last": 4}
    assert measure(Twice(), (3,), convention="running").capacity_bits <= 28
    assert measure(Twice(), (3,), effective=True).parameters == 16 + 20 + 10


def test_shared_weights_between_layers_count_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    report = measure(model, (4,))
    assert [layer.parameters for layer in report.layers] == [20, 4] and report.total_parameters == 24


def test_control_flow_on_values_falls_back_to_a_real_pass() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 3), nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(h) if h.sum() > -1e9 else h

    report = measure(Branch(), (2,))
    assert bits(report) == {"a": 9, "b": 3}
    assert "measured by a real forward pass" in report.notes[0]


@pytest.mark.parametrize("way", ["detach", "no_grad", "numpy"])
def test_detached_data_is_followed_all_the_same(way: str) -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 3), nn.Linear(3, 5), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            if way == "detach":
                hidden, raw = self.a(x).detach().relu(), x.detach()
            elif way == "no_grad":
                with torch.no_grad():
                    hidden, raw = self.a(x).relu(), x * 2
            else:
                hidden, raw = (
                    torch.from_numpy(self.a(x).detach().numpy()),
                    torch.from_numpy(x.detach().numpy()),
                )
            return self.b(hidden) + self.c(raw)

    report = {layer.name: layer for layer in measure(Detached(), (2,)).layers}
    assert report["b"].input_bits == 3 and report["c"].input_bits is None
    assert report["c"].capacity_bits == 3


WAYS = {
    "compared": lambda x: (x > 0).float(),
    "cast to integers": lambda x: x.int().to(x),
    "one hot": lambda x: nn.functional.one_hot(x.argmax(-1), x.shape[-1]).to(x),
    "ranks": lambda x: x.argsort(-1).to(x),
    "signs through numpy": lambda x: torch.from_numpy(np.sign(x.detach().numpy())),
}


@pytest.mark.parametrize("way", WAYS)
def test_data_made_integers_are_followed_all_the_same(way: str) -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (
                nn.Linear(2, 3),
                nn.Linear(3, 5),
                nn.Linear(2, 1),
                nn.Linear(2, 5),
            )

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = (
                self.b(WAYS[way](self.a(x))) + self.c(WAYS[way](x)) + self.d(torch.ones(len(x), 2))
            )
            return found

    report = measure(Rounded(), (2,))
    layers = {layer.name: layer for layer in report.layers}
    assert layers["b"].input_bits == 3 and layers["b"].capacity_bits == 3
    assert layers["c"].input_bits is None and layers["c"].capacity_bits == 3 and not layers["c"].note
    assert layers["d"].input_bits is None and "only constants" in layers["d"].note


class Mapped(nn.Module):
    """Layers inside torch.vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.vmap(lambda row: self.b(torch.relu(self.a(row))))(x)
        return found


class Energy(Mapped):
    """The gradient of a sum."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.b(torch.tanh(self.a(x))).sum(), x, create_graph=True)[0]


@pytest.mark.parametrize("effective", [False, True])
def test_what_cannot_be_followed_counts_whole_or_is_refused_for_what_it_is(effective: bool) -> None:
    report = measure(Mapped(), (2,), effective=effective)
    assert report.parameters == report.total_parameters == 29
    assert report.capacity_bits == 29
    assert "a, b: what reaches its input cannot be followed: not capped" in report.notes
    with pytest.raises(InputError, match="Energy runs, but what its layers pass to one another"):
        measure(Energy(), (2,), effective=effective)
    with pytest.raises(InputError, match=r"Energy cannot take an input of size \(7,\)"):
        measure(Energy(), (7,), effective=effective)


def test_weights_used_without_calling_their_layer() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.inner.weight)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.part, self.direct = nn.Linear(2, 4), Attention(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.part(self.first(x)), self.direct.weight, self.direct.bias)

    report = measure(Whole(), (2,))
    assert bits(report) == {"first": 12, "part": 4, "direct": 15}
    assert "direct: its weights are used without calling it" in str(report)


def test_constants_are_no_data() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.mix = nn.Linear(2, 3), nn.Linear(3, 1)
            self.register_buffer("places", torch.arange(8.0).view(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(self.table(self.places) + x)

    report = measure(Positions(), (4, 3))
    assert bits(report) == {"table": 9, "mix": 4}
    assert "table: no data reaches its input, only constants" in str(report)


def test_storage_says_what_holds_the_parameters() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2).half())
    report = measure(nn.Sequential(model[0]), (8,))
    assert report.storage_bits == 36 * 32 and report.capacity_per_storage_bit == 1 / 32
    half = measure(nn.Linear(8, 4).half(), (8,))
    assert half.storage_bits == 36 * 16 and half.capacity_bits == 36
    sparse = nn.Linear(8, 4, bias=False)
    sparse.weight = nn.Parameter(torch.eye(4, 8).to_sparse_csr())
    assert measure(sparse, (8,)).storage_bits == 4 * 32 + 4 * 64 + 5 * 64
    with pytest.raises(InputError, match=r"parameter 'packed' holds integers"):
        measure(Packed4Bit(), (8,))

    def unpacked(module: nn.Module, parameters: dict[str, int]) -> int:
        return 8 * sum(parameters.values())

    assert measure(Packed4Bit(), (8,), rules={**RULES, Packed4Bit: unpacked}).capacity_bits == 8 * 4


class Packed4Bit(nn.Module):
    """Weights packed into integers, as some quantizers store them."""

    def __init__(self) -> None:
        super().__init__()
        self.packed = nn.Parameter(torch.zeros(4, dtype=torch.int32), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :4] * self.packed


def test_quantized_weights_keep_their_capacity_and_take_less_storage() -> None:
    torchao = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.ReLU(), nn.Linear(32, 16, bias=False))
    before = measure(model, (64,))
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    after = measure(model, (64,))
    assert after.capacity_bits == before.capacity_bits and after.parameters == before.parameters
    assert after.storage_bits < before.storage_bits / 3


def test_compiled_and_scripted_models() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    assert measure(torch.compile(model), (2,)).capacity_bits == 8
    with pytest.raises(InputError, match="TorchScript"):
        measure(torch.jit.trace(model, torch.zeros(1, 2)), (2,))
