"""How a tensor is laid out to be coded: few rows of very many columns are folded, and come back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compression.codec import coding_report, decode, encode
from compression.codec import records as records_module
from compression.codec.records import (
    BOOKS,
    FOLDED,
    LONG,
    Matrix,
    bit_patterns,
    nonzero,
    plan_of,
    symbols_of,
)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 12))
def test_what_is_laid_out_comes_back(rows: int, columns: int, folds: int) -> None:
    matrix, elements = Matrix(rows, columns, folds), np.arange(1, rows * columns + 1)
    laid_out = matrix.laid_out(elements)
    assert laid_out.shape == matrix.shape and laid_out.shape[0] == rows * folds
    assert (matrix.elements(laid_out) == elements).all()
    assert np.count_nonzero(laid_out) == len(elements)  # what is added is zero


@given(st.integers(1, 300), st.integers(1, 60_000))
def test_only_long_matrices_are_folded_and_none_stays_long(rows: int, columns: int) -> None:
    tensor = torch.empty(rows, columns, device="meta")
    matrix, before = Matrix.of(tensor), Matrix.of(tensor, folds=False)
    assert (before.rows, before.columns, before.folds) == (rows, columns, 1)
    assert (matrix.folds > 1) == (columns > max(LONG, 64 * rows))
    assert matrix.shape[1] <= FOLDED or matrix.folds == 1


def long_row(rows: int, columns: int) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(columns, rows)
    with torch.no_grad():
        model.weight.mul_(torch.rand_like(model.weight) < 0.1)
    return model


@pytest.mark.parametrize(("rows", "columns"), [(1, 8193), (2, 20_011), (1, 200_000)])
def test_long_rows_come_back_bit_for_bit(rows: int, columns: int, tmp_path: Path) -> None:
    model = long_row(rows, columns)
    size = encode(model, tmp_path / "long.dcz")
    assert (tmp_path / "long.dcz").read_bytes()[3] == (3 if columns > 9000 else 2)  # 3: values are packed
    back = decode(tmp_path / "long.dcz", nn.Linear(columns, rows))
    assert torch.equal(back.weight, model.weight) and torch.equal(back.bias, model.bias)
    report = coding_report(model)
    stored = int((model.weight != 0).sum())
    places = -(stored * np.log2(0.1) + (rows * columns - stored) * np.log2(0.9)) / 8
    assert report.file_bytes == pytest.approx(size, abs=8)
    assert size < 4 * (stored + rows) + 1.03 * places + 60


def test_files_of_the_first_version_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = long_row(1, 8200)
    with monkeypatch.context() as earlier:  # as it was written when nothing was folded
        earlier.setattr(records_module, "LONG", 10**9)
        encode(model, tmp_path / "first.dcz")
    assert (tmp_path / "first.dcz").read_bytes()[:4] == b"DCZ\x01"
    assert torch.equal(decode(tmp_path / "first.dcz", nn.Linear(8200, 1)).weight, model.weight)


def test_a_network_without_long_rows_is_of_the_first_version(tmp_path: Path) -> None:
    encode(nn.Linear(40, 10), tmp_path / "net.dcz")
    assert (tmp_path / "net.dcz").read_bytes()[:4] == b"DCZ\x01"


@given(
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.int64]),
    st.lists(st.integers(-3, 3), min_size=30, max_size=30),
)
def test_negative_zeros_are_zeros_and_the_least_integer_is_none(kind: torch.dtype, levels: list[int]) -> None:
    tensor = torch.tensor(levels).to(kind).view(5, 6)
    tensor = -tensor if kind.is_floating_point else torch.where(tensor == 3, torch.iinfo(kind).min, tensor)
    patterns = bit_patterns(tensor)
    assert patterns is not None
    assert nonzero(patterns, tensor).tolist() == (tensor != 0).flatten().tolist()
    plan = plan_of({"w": tensor}, "w")
    if plan.kind in BOOKS:
        symbols = symbols_of(patterns, plan, tensor)
        assert ((symbols != 0) == (tensor != 0).flatten().numpy()).all()
        assert len(np.unique(symbols[symbols != 0])) == len(tensor[tensor != 0].unique())
