"""FLOPs by hand, latency and peak memory measured."""

import time
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from torchvisions import every_network
from weightless import OnMeta

from analysis.lab.models import create
from capacity import InputError
from compression.costs import TAKES, flops, latencies, latency, peak_memory_bytes, time_calls
from compression.criteria import L1
from compression.pruning import prune
from compression.shrinking import shrink


def test_flops_by_hand_and_masks_change_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    by_hand = 2 * (8 * 16 * 27 + 8 * 16 * 5)
    assert flops(model, (3, 4, 4)) == by_hand
    assert flops(prune(model, L1(), amount=4, unit="neuron").model, (3, 4, 4)) == by_hand
    assert flops(shrink(model, (3, 4, 4), amount=0.5).model, (3, 4, 4)) == by_hand // 2


class Slow(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return x


def test_latency_is_wall_clock_time_of_a_batch() -> None:
    found = latency(Slow(), (3,), batch_size=4, repeats=3)
    assert 20 <= found.interquartile_ms[0] <= found.median_ms <= found.interquartile_ms[1]
    assert found.per_sample_ms == found.median_ms / 4 and found.threads == torch.get_num_threads()
    assert "a batch of 4" in str(found)
    quick, slow = latencies([nn.Identity(), Slow()], (3,), repeats=3)
    assert quick.median_ms < slow.median_ms


def taken(milliseconds: list[float]) -> tuple[Any, int]:
    """What is made of times that come in this order, eight a take, and how many takes there were."""
    left = iter(milliseconds)
    found = time_calls([lambda: next(left)], devices=["cpu"], batch_size=1, repeats=8)[0]
    return found, (len(milliseconds) - len(list(left))) // 9  # one of nine warms up


def test_times_out_of_range_are_taken_again() -> None:
    busy, quiet = [9.0, *[1.0] * 4, *[100.0] * 4], [9.0, *[2.0] * 8]
    found, takes = taken([*busy, *quiet, *quiet])
    assert (found.median_ms, found.steady, takes) == (2.0, True, 2) and "unsteady" not in str(found)
    assert taken([*quiet, *busy])[1] == 1
    found, takes = taken(busy * 5)
    assert (found.steady, takes) == (False, TAKES)
    assert str(found).endswith("unsteady: time it again on a quiet machine")
    worse = [9.0, *[1.0] * 4, *[900.0] * 4]
    assert taken([*worse, *busy, *worse])[0].interquartile_ms == (1.0, 100.0)  # the steadiest counts
    stopped = [9.0, *[0.0] * 8]  # a clock that stands still
    assert not taken(stopped * 3)[0].steady


def test_the_peak_is_that_of_the_activations() -> None:
    one = nn.Sequential(nn.Linear(1000, 2000), nn.Linear(2000, 1000), nn.Linear(1000, 10))
    peak = peak_memory_bytes(one, (1000,), batch_size=256)
    assert peak == 256 * 3000 * 4
    small = shrink(one, (1000,), amount=0.5).model
    assert peak_memory_bytes(small, (1000,), batch_size=256) < 0.6 * peak


def test_a_shrunk_network_needs_less_of_everything() -> None:
    model = create("vgg16bn", classes=100).eval()
    small = shrink(model, (3, 32, 32), amount=0.5).model
    assert flops(small, (3, 32, 32)) < 0.3 * flops(model, (3, 32, 32))
    assert peak_memory_bytes(small, (3, 32, 32), batch_size=8) < peak_memory_bytes(
        model, (3, 32, 32), batch_size=8
    )


def test_bad_input() -> None:
    with pytest.raises(InputError, match="repeats and batch_size"):
        latency(nn.Linear(2, 2), (2,), repeats=0)


MEASURES = [
    flops,
    lambda model, size: latency(model, size, repeats=1),
    lambda model, size: latencies([nn.Identity(), model], size, repeats=1),
    peak_memory_bytes,
]


@pytest.mark.parametrize("measure", MEASURES)
def test_an_input_that_the_model_cannot_take(measure) -> None:
    with pytest.raises(InputError, match=r"Linear cannot take an input of size \(7,\)"):
        measure(nn.Linear(6, 3), (7,))
    with pytest.raises(InputError, match="must be the shape of one sample"):
        measure(nn.Linear(6, 3), "six")


def test_a_model_without_memory_has_operations_but_no_times() -> None:
    model = nn.Sequential(nn.Linear(6, 8, device="meta"), nn.BatchNorm1d(8, device="meta"))
    assert flops(model, (6,)) == 2 * 6 * 8
    with pytest.raises(InputError, match="cannot take an input of size"):
        flops(model, (7,))
    for measure in MEASURES[1:]:
        with pytest.raises(InputError, match="meta device, which computes nothing"):
            measure(model, (6,))
    with pytest.raises(InputError, match="meta device"):  # a part is enough
        latency(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3, device="meta")), (6,), repeats=1)


def test_subnormal_numbers_are_told() -> None:
    model = nn.Linear(4, 4)
    assert latency(model, (4,), repeats=1).subnormals == 0
    nn.init.constant_(model.bias, 1e-39)
    found = latency(model, (4,), repeats=1)
    assert found.subnormals == 4 and "4 subnormal numbers in the model slow it down" in str(found)


@every_network
def test_flops_of_every_torchvision_classification_network(name: str) -> None:
    """As `torch.utils.flop_counter` counts the network itself, and as torchvision publishes."""
    with OnMeta():
        model = models.get_model(name, weights=None).to("meta").eval()
    weights = min(models.get_model_weights(name), key=lambda w: w.transforms().crop_size[0])
    size = (3, weights.transforms().crop_size[0], weights.transforms().crop_size[0])
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, *size, device="meta"))
    found = flops(model, size)
    assert found == counter.get_total_flops()
    assert found / 2e9 == pytest.approx(weights.meta["_ops"], rel=0.005, abs=6e-4)  # multiply-adds
