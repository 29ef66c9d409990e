"""The threshold of a selection against a full sort, ties, dead elements, several parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression import selection
from compression.selection import Scores, masks_without_lowest


def by_sorting(parts: list[Scores], number: int) -> torch.Tensor:
    scores = torch.cat([part.chunk(0, part.values.numel()) for part in parts])
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    mask[scores.argsort(stable=True)[:number]] = False
    return mask


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=40), min_size=1, max_size=3), st.data(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_as_a_stable_sort_with_many_ties(values: list[list[int]], data) -> None:
    parts = [Scores(torch.tensor(part).float(), torch.abs) for part in values]
    number = data.draw(st.integers(0, sum(map(len, values))))
    assert torch.equal(torch.cat(masks_without_lowest(parts, number)), by_sorting(parts, number))


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.3, 0.6, 0.999, 1.0])
@pytest.mark.parametrize("kind", ["normal", "sorted", "constant", "half"])
def test_large_tensors_in_chunks(monkeypatch, share: float, kind: str) -> None:
    monkeypatch.setattr(selection, "CHUNK_ELEMENTS", 1 << 14)
    monkeypatch.setattr(selection, "SAMPLE_ELEMENTS", 1 << 10)
    torch.manual_seed(0)
    values = torch.randn(200_000)
    if kind == "sorted":
        values = values.sort().values
    if kind == "constant":
        values = torch.ones_like(values)
    if kind == "half":
        values = values.half()
    parts = [Scores(values[:150_000], torch.abs), Scores(values[150_000:], torch.square)]
    number = round(share * 200_000)
    assert torch.equal(torch.cat(masks_without_lowest(parts, number)), by_sorting(parts, number))


def test_dead_elements_go_first() -> None:
    alive = torch.tensor([True, False, True, True])
    parts = [Scores(torch.tensor([3.0, 9.0, 1.0, 2.0]), torch.abs, alive)]
    assert masks_without_lowest(parts, 2)[0].tolist() == [True, False, False, True]
