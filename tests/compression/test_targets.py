"""What prune() reaches by default, in which units, and what it leaves and says so; every matrix once."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import weight_norm

from capacity import InputError
from capacity.cloning import plain_copy
from compression.criteria import L1
from compression.pruning import prune
from compression.targets import choose, prunable, targets


class Conv1D(nn.Module):
    """The dense layer of the library transformers: inputs are rows of its weight, units are columns."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Experts(nn.Module):
    """Two experts in one parameter, positions that are only added, an embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.place = nn.Embedding(11, 6), nn.Parameter(torch.randn(3, 6))
        self.expert = nn.Parameter(torch.randn(2, 6, 6))
        self.parts = nn.ParameterList([torch.randn(6, 6)])
        self.head = nn.Linear(6, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.place
        x = (x @ self.expert[0]).relu() + (x @ self.expert[1]).tanh()
        return self.head(x @ self.parts[0])


class Attention(nn.Module):
    """Queries of another width than keys and values, so that the projections are separate."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, kdim=6, vdim=6, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return self.head(self.attention(q, k, k, need_weights=False)[0])


class Tied(nn.Module):
    """One matrix between two layers, and an embedding that is the output layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.one, self.two = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 9, bias=False)
        self.two.weight, self.head.weight = self.one.weight, self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.two(self.one(self.words(ids)).relu()).relu())


IDS = torch.tensor([[1, 2, 3]])


def encoder() -> nn.Sequential:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 2))


def recurrent(kind: type[nn.Module]) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = kind(4, 5, 2, batch_first=True, bidirectional=True), nn.Linear(10, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x)[0])

    return Net()


def after(layer: nn.Module, units: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(units))


REACHED = [
    (encoder, (3, 8), {f"0.layers.{i}.{key}" for i in (0, 1) for key in
     ("self_attn.in_proj_weight", "self_attn.out_proj", "linear1", "linear2")}, set()),
    (Attention, [(3, 4), (5, 6)],
     {f"attention.{key}_proj_weight" for key in "qkv"} | {"attention.out_proj"}, set()),
    (lambda: recurrent(nn.RNN), (3, 4), 8, set()),
    (lambda: recurrent(nn.LSTM), (3, 4), 8, set()),
    (lambda: recurrent(nn.GRU), (3, 4), 8, set()),
    (lambda: nn.Sequential(Conv1D(5, 4), nn.ReLU(), nn.Linear(5, 2)), (4,), {"0"}, set()),
    (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(150, 2)), (4, 3, 3),
     {"0"}, set()),
    (Experts, IDS, {"expert", "parts.0"}, {"words", "place"}),
    (Tied, IDS, {"one"}, {"words"}),
]  # fmt: skip


@pytest.mark.parametrize(("make", "size", "reached", "left"), REACHED)
def test_every_matrix_is_reached_or_listed_with_its_share(make, size, reached, left) -> None:
    model = make()
    result = prune(model, L1(), amount=0.5, input_size=size)
    names = {row.name for row in result.layers}
    assert len(names) == reached if isinstance(reached, int) else names == reached
    assert left <= {row.name for row in result.left}
    total = sum(parameter.numel() for parameter in model.parameters())
    chosen = sum(target.elements for target in prunable(model, None, input_size=size).values())
    assert sum(row.parameters for row in result.left) == total - chosen
    assert sum(row.share for row in result.left) == pytest.approx(1 - chosen / total)
    pruned = sum(row.pruned for row in result.layers)
    assert result.achieved_of_model == pytest.approx(pruned / total)
    assert result.achieved == pytest.approx(pruned / chosen)
    zeros = [int(sum((p == 0).sum() for p in m.parameters())) for m in (model, plain_copy(result.model))]
    assert zeros[1] - zeros[0] == pruned


@pytest.mark.parametrize(("make", "size", "reached", "left"), REACHED)
def test_what_is_masked_is_what_the_model_computes_with(make, size, reached, left) -> None:
    """A model whose masks are folded by hand computes the same, and another than before."""
    torch.manual_seed(0)
    model = make().eval()
    given = [size] if isinstance(size, Tensor) else [torch.randn(2, *s) for s in
             (size if isinstance(size, list) else [size])]  # fmt: skip
    result = prune(model, L1(), amount=0.5, input_size=size)
    by_hand = make().eval()
    by_hand.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, parameter in by_hand.named_parameters(remove_duplicate=False):
            if name in result.masks:
                parameter.mul_(result.masks[name])
        expected, found, before = by_hand(*given), result.model.eval()(*given), model(*given)
    assert torch.allclose(expected, found, atol=1e-6) and not torch.allclose(before, found, atol=1e-3)


def test_units_of_transposed_layers_are_columns_and_channels() -> None:
    model = nn.Sequential(Conv1D(5, 4), nn.ReLU(), nn.Linear(5, 2))
    result = prune(model, L1("zero"), amount=2, unit="neuron", layers=["0"])
    gone = model[0].weight.abs().sum(0).argsort()[:2]
    assert bool((result.model[0](torch.randn(3, 4))[:, gone] == 0).all())
    assert not result.masks["0.weight"][:, gone].any() and not result.masks["0.bias"][gone].any()
    assert result.layers[0].before == 5 and int(result.masks["0.weight"].any(0).sum()) == 3


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
@pytest.mark.parametrize("groups", [1, 2])
def test_units_of_transposed_convolutions_in_groups(kind: type[nn.Module], groups: int) -> None:
    layer = kind(4, 6, 3, groups=groups)
    side = (5,) * (layer.weight.dim() - 2)
    result = prune(nn.Sequential(layer), L1("zero"), amount=2, unit="neuron", layers=["0"])
    pruned = result.model(torch.randn(2, 4, *side))
    silent = (pruned == 0).flatten(2).all(2).all(0)
    halves = layer.weight.detach().abs().chunk(groups)
    scores = torch.cat([half.transpose(0, 1).flatten(1).sum(1) for half in halves])
    assert silent.nonzero().flatten().tolist() == sorted(scores.argsort()[:2].tolist())


def test_units_of_attention_s_projections() -> None:
    for size, model in (((3, 8), encoder()), ([(3, 4), (5, 6)], Attention())):
        result = prune(model, L1("zero"), amount=1, unit="neuron", input_size=size)
        attention = next(m for m in result.model.modules() if isinstance(m, nn.MultiheadAttention))
        bias = next(mask for name, mask in result.masks.items() if name.endswith("in_proj_bias"))
        rows = [mask for name, mask in result.masks.items() if "_proj_weight" in name]
        rows = torch.cat([mask.any(1) for mask in rows[: 1 if attention._qkv_same_embed_dim else 3]])
        assert torch.equal(bias, rows) and int((~rows).sum()) == (1 if len(rows) == 24 else 3)


def test_rows_that_are_no_neurons_are_left_or_refused() -> None:
    model = recurrent(nn.LSTM)
    with pytest.raises(InputError, match=r"no dense or convolutional layer.*rows are not neurons"):
        prune(model, L1(), amount=1, unit="neuron", input_size=(3, 4))
    with pytest.raises(InputError, match=r"layer 'body': the rows of 'body.weight_ih_l0' are not neurons"):
        prune(model, L1(), amount=1, unit="neuron", layers=["body"])
    result = prune(model, L1(), amount=3, layers=["body"])
    assert len(result.layers) == 8 and all(row.pruned == 3 for row in result.layers)


def test_embeddings_and_parameters_are_pruned_on_request() -> None:
    result = prune(Experts(), L1(), amount=0.5, layers=["words", "place"])
    assert [row.name for row in result.layers] == ["words", "place"]
    assert {"expert", "head"} <= {row.name for row in result.left}
    columns = prune(Experts(), L1(), amount=2, unit="neuron", layers=["words"])
    assert int(columns.masks["words.weight"].any(0).sum()) == 4
    with pytest.raises(InputError, match="unknown layer"):
        prune(Experts(), L1(), amount=0.5, layers=["parts.1"])


def test_a_tied_matrix_is_masked_once_under_all_its_names() -> None:
    model = Tied()
    result = prune(model, L1("zero"), amount=6, input_size=IDS)
    assert [row.name for row in result.layers] == ["one"] and result.layers[0].before == 16
    assert torch.equal(result.masks["one.weight"], result.masks["two.weight"])
    assert torch.equal(result.model.one.weight, result.model.two.weight)
    assert result.achieved_of_model == 6 / (16 + 8 + 36) and result.density == 10 / 16
    reasons = {row.name: row.reason for row in result.left}
    assert "outputs" in reasons["words"] and "head" not in reasons
    again = prune(result.model, L1("zero"), amount=5, layers=["two"])
    assert int((~again.masks["one.weight"]).sum()) == int((~again.masks["two.weight"]).sum()) == 11
    with pytest.raises(InputError, match="two amounts for the same weight 'one'"):
        prune(model, L1(), amount={"one": 1, "two": 0.5})


def test_no_head_is_pruned_by_default_wherever_it_is_registered() -> None:
    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy, self.value, self.trunk = nn.Linear(6, 2), nn.Linear(6, 1), nn.Linear(4, 6)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = F.relu(self.trunk(x))
            return self.policy(x), self.value(x)

    for size in ((4,), None):
        assert list(prunable(Policy(), None, input_size=size)) == ["trunk"]


def test_where_outputs_are_guessed_the_reason_says_so() -> None:
    class Secretive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(4, 4))
            self.head, self.body = nn.Linear(4, 2), nn.Linear(4, 4)

        def forward(self, x: Tensor, steps: int) -> Tensor:
            for _ in range(steps):
                x = self.body(x) @ self.matrix
            return self.head(x)

    result = prune(Secretive(), L1(), amount=0.5)
    reasons = {row.name: row.reason for row in result.left}
    assert "order of registration: pass input_size" in reasons["body"]
    assert "pass input_size, or name it" in reasons["matrix"] and "pass input_size" in str(result)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_computed_go_by_the_name_that_is_read() -> None:
    norms = (weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm)
    for norm in (*norms, nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.orthogonal):
        model = nn.Sequential(norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2))
        found = choose(model, None, input_size=(4,))
        assert {name: target.names for name, target in found.chosen.items()} == {"0": ("0.weight",)}
        assert found.chosen["0"].elements == 24 and "2" in found.left


def test_every_matrix_is_listed_once_in_order() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.LayerNorm(4), shared, nn.Bilinear(4, 4, 2))
    assert [target.names for target in targets(model).values()] == [("0.weight", "2.weight"), ("3.weight",)]
    with pytest.raises(InputError, match="not initialized"):
        targets(nn.Sequential(nn.LazyLinear(3)))


def test_masks_of_an_earlier_round_are_found_under_a_tied_name() -> None:
    from torch.nn.utils import prune as torch_prune

    model = Tied()
    torch_prune.l1_unstructured(model.two, "weight", amount=4)
    result = prune(model, L1("zero"), amount=4, layers=["one"])
    assert result.layers[0].before == 12 and {"one.weight", "two.weight"} <= set(result.masks)


def test_a_silenced_neuron_of_a_tied_matrix_loses_the_bias_of_every_layer() -> None:
    model = Tied()
    result = prune(model, L1(), amount=2, unit="neuron", input_size=IDS)
    gone = ~result.masks["one.weight"].any(1)
    assert int(gone.sum()) == 2
    for layer in (result.model.one, result.model.two):
        assert bool((layer(torch.randn(3, 4))[:, gone] == 0).all())


def test_complex_and_other_numbers_are_listed_by_type() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter = nn.Parameter(torch.randn(4, 4, dtype=torch.complex64))
            self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.fft.ifft(torch.fft.fft(self.body(x)) @ self.filter).real
            return self.head(x)

    result = prune(Spectral(), L1(), amount=0.5, input_size=(4,))
    reasons = {row.name: row.reason for row in result.left}
    assert [row.name for row in result.layers] == ["body"] and "torch.complex64" in reasons["filter"]
    assert sum(row.parameters for row in result.left) == 16 + 10 + 4 - 2 + 2


def test_gpt2_is_pruned_all_but_its_embedding_which_is_its_output_layer() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=31, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    model = transformers.GPT2LMHeadModel(config).eval()
    result = prune(model, L1("zero"), amount=0.5)
    block = "transformer.h.0."
    layers = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert [row.name for row in result.layers] == [block + layer for layer in layers]
    assert {"transformer.wte", "transformer.wpe"} < {row.name for row in result.left}
    neurons = prune(model, L1("zero"), amount=3, unit="neuron", layers=[block + "mlp.c_fc"])
    hidden = neurons.model.get_submodule(block + "mlp.c_fc")(torch.randn(2, 8))
    assert int((hidden == 0).all(0).sum()) == 3
