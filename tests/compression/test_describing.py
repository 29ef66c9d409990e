"""Labels told with a file, and block by block: what the network sees, and what it must not."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from capacity import InputError, two_part_length
from compression.batches import TensorBatches
from compression.codec import encode
from compression.describing import blocks, description_length, prequential_length
from compression.evaluation import outputs


def test_a_file_is_read_back_and_its_bytes_counted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2))
    size = encode(model, tmp_path / "net.dcz")
    inputs = torch.randn(300, 4)
    data = TensorBatches(inputs, (inputs[:, 0] > 0).long(), 100)
    found = description_length(tmp_path / "net.dcz", nn.Sequential(nn.Linear(4, 2)), data, choices=2)
    assert found == two_part_length(*outputs(model, data), file_bytes=size, choices=2)
    assert found.samples == 300 and found.file_bits > 8 * size


@given(st.integers(2, 5000), st.integers(1, 400))
def test_blocks_cover_all_rows_but_the_first(count: int, first: int) -> None:
    found = list(blocks(count, first))
    assert [row for start, stop in found for row in range(start, stop)] == list(range(first, count))
    assert all(stop <= 2 * start for start, stop in found)


class Frequencies(nn.Module):
    """The log-odds of two classes as it counted them; inputs say nothing."""

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__()
        counts = torch.bincount(labels, minlength=2) + 1.0
        self.logits = nn.Parameter((counts / counts.sum()).log(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), 2)


def told(labels: torch.Tensor, network=None, **options):
    inputs = torch.arange(len(labels), dtype=torch.float32)[:, None]
    seen = []

    def trained(rows: torch.Tensor) -> nn.Module:
        seen.append(set(rows.tolist()))
        return Frequencies(labels[rows]) if network is None else network(rows)

    def batches(rows: torch.Tensor) -> TensorBatches:
        told_before = [*seen[-1:]]
        held_out_or_new = set(rows.tolist())
        assert not told_before or not (told_before[0] & held_out_or_new)  # never told by rows trained on
        return TensorBatches(inputs[rows], labels[rows], 50)

    return prequential_length(trained, batches, labels, classes=2, **options), seen


def test_counted_frequencies_cost_their_entropy_and_a_little() -> None:
    """n · H, half a log of n as in Krichevsky and Trofimov's code, a first block at a bit a label, and tens
    of bits for temperatures that a tenth of the rows before sets."""
    spent = []
    for seed in range(10):
        labels = (torch.rand(2000, generator=torch.Generator().manual_seed(seed)) < 0.2).long()
        found, _ = told(labels, first=20, seed=seed)
        assert found.label_bits == pytest.approx(2000 * 0.722, rel=0.1)
        assert found.file_bits == 0 and found.code == "prequential"
        spent.append(found.bits - found.label_bits)
    assert min(spent) > -15 and 10 < sum(spent) / len(spent) < 90


def test_no_network_sees_what_it_tells() -> None:
    labels = torch.arange(200) % 2
    _, seen = told(labels, first=50)
    assert [len(rows) for rows in seen] == [45, 90]
    assert seen[0] < seen[1] | set(range(200))


def test_a_network_that_knows_the_rule_learns_nearly_all() -> None:
    class Odd(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            odd = (x % 2) * 40 - 20
            return torch.cat([-odd, odd], 1) + 0 * self.weight.sum()

    found, _ = told(torch.arange(1000) % 2, lambda rows: Odd(1, 1), first=50)
    by_hand = 50 + sum(
        (stop - start) * -math.log2(1 - 1 / (start - start // 10 + 2) / 2) for start, stop in blocks(1000, 50)
    )
    assert found.bits == pytest.approx(by_hand, rel=1e-4) and found.learned_share > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [({"first": 19}, "first must be at least 20"), ({"first": 100}, "first must be below the 100 rows")],
)
def test_a_first_block_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        told(torch.arange(100) % 2, **options)
