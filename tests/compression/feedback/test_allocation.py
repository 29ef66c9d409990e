"""allocate_bits(): the cheapest bits within a budget, as brute force finds; never over it; refusals."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import InputError
from compression import allocate_bits, round_with_feedback
from compression.feedback.allocation import cheapest


def batches() -> list[Tensor]:
    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    return [x + x.mean(1, keepdim=True)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    stem = [nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16, bias=False), nn.ReLU()]
    return nn.Sequential(*stem, nn.Linear(16, 4)).eval()


def stored(elements: int, rows: int, bits: int) -> int:
    return elements * bits + 16 * rows


@pytest.mark.parametrize("average", [3.5, 4.0, 5.3, 6.9])
@pytest.mark.parametrize("sensitivity", ["fisher", "output"])
def test_no_assignment_within_the_budget_costs_less(average: float, sensitivity) -> None:
    found = allocate_bits(
        network(), batches(), average_bits=average, choices=(2, 3, 4, 8), sensitivity=sensitivity
    )
    shapes = [(192, 16), (256, 16), (64, 4)]
    total = sum(elements for elements, _ in shapes)
    fitting = [
        sum(layer.costs[b] for layer, b in zip(found.layers, bits, strict=True))
        for bits in product((2, 3, 4, 8), repeat=3)
        if sum(stored(*shape, b) for shape, b in zip(shapes, bits, strict=True)) <= average * total
    ]
    assert found.cost == pytest.approx(min(fitting), rel=1e-12)
    assert found.average_bits <= average
    sizes = [stored(*shape, b) for shape, b in zip(shapes, found.bits.values(), strict=True)]
    assert found.bytes == -(-sum(sizes) // 8) and found.average_bits == sum(sizes) / total


def test_costs_are_those_of_rounding_each_layer_alone() -> None:
    model = network()
    found = allocate_bits(model, batches(), average_bits=8.0, choices=(3, 4), sensitivity="output")
    for layer in found.layers:
        alone = round_with_feedback(model, batches(), bits={layer.name: 3})
        assert layer.costs[3] == pytest.approx(alone.layers[0].output_error, rel=1e-9)
        assert layer.costs[4] < layer.costs[3]


def test_nats_by_fisher_are_the_rise_of_the_loss_under_labels_that_the_network_draws() -> None:
    torch.manual_seed(1)
    layer, x = nn.Linear(5, 3, bias=False), torch.randn(4000, 5)
    found = allocate_bits(layer, [x], average_bits=99.0, choices=(4,))
    rounded = round_with_feedback(layer, [x], bits=4).model
    shares, change = layer(x).softmax(1).detach(), (rounded(x) - layer(x)).detach()
    diagonal = shares * (1 - shares)  # of the softmax's Fisher information
    expected = 0.5 * (diagonal.mean(0) * change.square().mean(0)).sum()
    assert found.cost == pytest.approx(float(expected), rel=0.1)
    rise = F.kl_div(rounded(x).log_softmax(1), shares, reduction="batchmean")
    assert 0.3 < found.cost / float(rise.detach()) < 3


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 10)), min_size=1, max_size=4), min_size=1,
                max_size=4), st.data())  # fmt: skip
def test_cheapest_agrees_with_brute_force(layers, data) -> None:
    sizes = [sorted(size for size, _ in layer) for layer in layers]
    costs = [[cost for _, cost in layer] for layer in layers]
    least = sum(options[0] for options in sizes)
    room = data.draw(st.integers(least, least + 60))
    picked = cheapest(sizes, costs, room)

    def total(table, places) -> float:
        return sum(options[place] for options, place in zip(table, places, strict=True))

    assert total(sizes, picked) <= room
    every = product(*(range(len(options)) for options in sizes))
    best = min(total(costs, places) for places in every if total(sizes, places) <= room)
    assert total(costs, picked) == pytest.approx(best, abs=1e-9)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=6), st.integers(0, 100), st.integers(0, 100))
def test_large_odd_sizes_stay_within_the_budget_and_more_never_costs_more(elements, one, two) -> None:
    sizes = [[bits * count for bits in (2, 3, 4, 8)] for count in elements]
    costs = [[2.0 ** (-2 * bits) * (place + 1) for bits in (2, 3, 4, 8)] for place in range(len(elements))]
    least, most = 2 * sum(elements), 8 * sum(elements)
    told = []
    for share in sorted((one, two)):
        room = least + (most - least) * share // 100
        picked = cheapest(sizes, costs, room)
        assert sum(options[k] for options, k in zip(sizes, picked, strict=True)) <= room
        told.append(sum(options[k] for options, k in zip(costs, picked, strict=True)))
    assert told[1] <= told[0] + 1e-12


def test_what_matters_more_gets_more_bits_and_the_model_stays() -> None:
    model = network()
    with torch.no_grad():
        model[4].weight.mul_(100)  # what comes before costs more, not what comes last by its own share
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = allocate_bits(model, batches(), budget_bytes=350, choices={"0": (2, 4, 8), "2": (2, 4, 8)})
    assert set(found.bits) == {"0", "2"} and set(found.left) == {"4"} and found.bytes <= 350
    rounded = round_with_feedback(model, batches(), bits=found.bits)
    assert [layer.bits for layer in rounded.layers] == list(found.bits.values())
    assert rounded.average_bits == pytest.approx(found.average_bits)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert "bits for each weight" in str(found) and "nat" in str(found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either average_bits or budget_bytes"),
        ({"average_bits": 4, "budget_bytes": 9}, "either average_bits or budget_bytes"),
        ({"average_bits": 2.0}, r"nearest that can be reached is average_bits=3\.1250"),
        ({"budget_bytes": 100}, "nearest that can be reached is 200 bytes"),
        ({"average_bits": float("nan")}, "average_bits"),
        ({"budget_bytes": 1.5}, "budget_bytes"),
        ({"average_bits": 4, "choices": ()}, "choices must be a list of bits"),
        ({"average_bits": 4, "choices": (1, 4)}, "bits must lie between 2 and 8"),
        ({"average_bits": 4, "choices": {"nine": (4,)}}, "nine"),
        ({"average_bits": 4, "sensitivity": "hessian"}, "sensitivity"),
        ({"average_bits": 4, "group_size": 0}, "group_size"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words) -> None:
    with pytest.raises(InputError, match=words):
        allocate_bits(network(), batches(), **arguments)
