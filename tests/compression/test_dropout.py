"""Neuron dropout: exactly so many neurons, a scale that keeps the mean, layers that learn."""

import pytest
import torch
from torch import nn

from capacity import InputError
from compression.dropout import neuron_dropout


def test_exactly_so_many_neurons_are_silent_while_training_and_none_after() -> None:
    model = nn.Sequential(nn.Linear(3, 10), nn.Linear(10, 2)).train()
    with torch.no_grad():
        model[0].weight.fill_(1), model[0].bias.fill_(1)
    with neuron_dropout(model, {"0": 4}, seed=1):
        one, two = model[0](torch.ones(5, 3)), model[0](torch.ones(5, 3))
        assert model.eval()[0](torch.ones(1, 3)).eq(4).all()
    for output in (one, two):
        silent = output.eq(0).all(0)
        assert silent.sum() == 4 and torch.allclose(output[:, ~silent], torch.tensor(4 * 10 / 6))
    assert not torch.equal(one, two)
    assert not model[0]._forward_hooks


def test_channels_of_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3)).train()
    with neuron_dropout(model, {"0": 2}):
        output = model(torch.randn(2, 1, 5, 5))
    assert output.eq(0).all(dim=(0, 2, 3)).sum() == 2


def test_the_layer_learns() -> None:
    model = nn.Sequential(nn.Linear(3, 10), nn.Linear(10, 2)).train()
    with neuron_dropout(model, {"0": 4}):
        model(torch.ones(5, 3)).sum().backward()
    assert model[0].weight.grad.ne(0).any(1).sum() == 6


@pytest.mark.parametrize(("amounts", "message"), [({"0": 10}, "0 to 9 of 10"), ({"7": 1}, "unknown layer")])
def test_bad_input(amounts: dict, message: str) -> None:
    model = nn.Sequential(nn.Linear(3, 10), nn.Linear(10, 2))
    with pytest.raises(InputError, match=message), neuron_dropout(model, amounts):
        pass
