"""output_layers(): every head by dataflow, whatever the order of registration; guesses; and it says how."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from capacity import InputError
from compression.outputs import output_layers


class HeadFirst(nn.Module):
    """The output layer is registered before what feeds it."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(8, 3), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())


class Heads(nn.Module):
    """An actor and a critic over one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.policy, self.value = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[torch.distributions.Distribution, Tensor]:
        hidden = self.trunk(x).tanh()
        return torch.distributions.Categorical(logits=self.policy(hidden)), self.value(hidden)


class Autoencoder(nn.Module):
    """Mean and variance are outputs, and feed the decoder too."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mean, self.variance = nn.Linear(6, 5), nn.Linear(5, 2), nn.Linear(5, 2)
        self.decoder = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 6))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(x).relu()
        mean, variance = self.mean(hidden), self.variance(hidden)
        drawn = mean + torch.randn_like(mean) * variance.exp()
        return {"picture": self.decoder(drawn), "mean": mean, "variance": variance}


class Residual(nn.Module):
    """No head: the outputs are a sum with a shortcut past several layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.one(x).relu()
        return self.norm(x + self.two(x).relu())


class Dueling(nn.Module):
    """Two heads of which neither feeds the other, added."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.value, self.advantage = nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x).relu()
        return self.value(x) + self.advantage(x)


class Tower(nn.Module):
    """Embeddings of two inputs, compared."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return F.normalize(self.left(a)) @ F.normalize(self.right(b)).T


class Tied(nn.Module):
    """The embedding's matrix is the output layer's, used without calling anything."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.body = nn.Embedding(11, 6), nn.Linear(6, 6)

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.body(self.words(ids)).relu(), self.words.weight)


class Auxiliary(nn.Module):
    """A head in training only, with a batch norm that refuses a batch of one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.side = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.body(x).relu()
        return (self.head(x), self.side(x)) if self.training else self.head(x)


class InPlace(nn.Module):
    """Two heads written into slices of one tensor, after a detour through integers."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.box, self.score = nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x.long().float()).relu_()
        out = x.new_empty(len(x), 5)
        out[:, :4] = self.box(x)
        out[:, 4:] = self.score(x).detach()
        return out


class Secretive(nn.Module):
    """Takes nothing that could be guessed, branches on values, and registers its head first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(4, 2), nn.Linear(4, 4)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        for _ in range(steps):
            x = self.body(x)
        return self.head(x)


CASES = [
    (HeadFirst, (4,), ["head"]),
    (Heads, (4,), ["policy", "value"]),
    (Autoencoder, (6,), ["mean", "variance", "decoder.2"]),
    (Residual, (4,), ["two"]),
    (Dueling, (4,), ["value", "advantage"]),
    (Tower, [(3,), (5,)], ["left", "right"]),
    (Tied, torch.zeros(1, 3, dtype=torch.long), ["words"]),
    (Auxiliary, (4,), ["head", "side.1"]),
    (InPlace, (4,), ["box", "score"]),
    (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), ["linear2"]),
    (lambda: nn.LSTM(4, 3, num_layers=2), (5, 4), [""]),
    (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 3, 3)), (3, 8, 8), ["2"]),
    (lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2).requires_grad_(False)), (4,), ["1"]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "size", "names"), CASES)
def test_all_heads_whatever_the_order_of_registration(make, size, names) -> None:
    found = output_layers(make(), size)
    assert list(found.names) == names and found.by_dataflow and found.evidence == "a forward pass"
    assert all(name.rpartition(".")[0] in found.names for name in found.parameters)


@pytest.mark.parametrize(("make", "names"), [(make, names) for make, _, names in CASES])
def test_without_an_input_one_is_guessed_or_the_model_traced(make, names) -> None:
    found = output_layers(make())
    assert list(found.names) == names and found.by_dataflow and "order" not in found.evidence


def test_what_cannot_be_followed_says_so() -> None:
    found = output_layers(Secretive())
    assert found.names == ("body",) and found.evidence == "order of registration" and not found.by_dataflow


def test_parametrized_and_masked_weights_go_by_their_own_names() -> None:
    model = HeadFirst()
    parametrizations.weight_norm(model.head)
    assert output_layers(model, (4,)).parameters == {"head.weight"}


def test_what_multiplies_data_and_what_is_only_added() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.matrix = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6, 6))
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((x + self.place) @ self.matrix)

    found = output_layers(Positions(), (4, 6))
    assert found.multiplied is not None and {"matrix", "head.weight"} <= found.multiplied
    assert "place" not in found.multiplied


def test_an_input_that_does_not_fit_is_refused_and_the_model_left_as_it_was() -> None:
    model = Auxiliary().train()
    with pytest.raises(InputError, match="Auxiliary cannot take an input of size"):
        output_layers(model, (5,))
    with pytest.raises(InputError, match="no weight lies between"):
        output_layers(nn.Sequential(nn.ReLU()), (5,))
    output_layers(model, (4,))
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


@given(st.permutations(range(5)), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_any_order_of_registration_any_number_of_heads(order: list[int], heads: int) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for index in order:
                self.add_module(f"l{index}", nn.Linear(4, 4))

        def forward(self, x: Tensor) -> list[Tensor]:
            for index in range(5 - heads):
                x = self.get_submodule(f"l{index}")(x).relu()
            return [self.get_submodule(f"l{index}")(x) for index in range(5 - heads, 5)]

    assert set(output_layers(Net(), (4,)).names) == {f"l{index}" for index in range(5 - heads, 5)}


def test_odd_models_are_not_stumbled_over() -> None:
    class Bare(nn.Linear):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.weight, self.bias = nn.Parameter(torch.randn(3, 4)), None

    assert output_layers(nn.Sequential(Bare(), nn.Linear(3, 2)), (4,)).names == ("1",)
    assert output_layers(nn.Sequential(Bare(), nn.Linear(3, 2))).names == ("1",)
    assert output_layers(nn.Sequential(nn.ReLU())).names == ()


def test_the_random_state_is_left_as_it_was() -> None:
    models = Autoencoder(), Heads()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    for model in models:
        output_layers(model)
    assert torch.equal(torch.rand(2), expected)
