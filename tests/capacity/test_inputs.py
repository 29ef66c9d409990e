"""Example inputs, whole numbers of every kind, and errors alike wherever a model is run."""

import numpy as np
import pytest
import torch
from torch import nn

from capacity import InputError, dense_capacity, measure
from capacity.inputs import example_input, forward, require_weights, whole_number


@pytest.mark.parametrize("value", [7, np.int64(7), np.uint8(7), torch.tensor(7), torch.tensor([7])])
def test_whole_numbers_of_every_library(value) -> None:
    found = whole_number("count", value)
    assert found == 7 and type(found) is int


@pytest.mark.parametrize("value", [7.0, True, "7", None, np.float64(7), torch.tensor(7.0), np.bool_(True)])
def test_what_is_no_whole_number_is_refused(value) -> None:
    with pytest.raises(InputError, match="count must be a whole number"):
        whole_number("count", value)
    with pytest.raises(InputError, match="at least 3, found 2"):
        whole_number("count", 2, least=3)


def test_sizes_may_be_numpy_s_and_do_not_overflow() -> None:
    size = tuple(np.array([1, 4], dtype=np.int32))
    assert measure(nn.Linear(4, 2), size).capacity_bits == measure(nn.Linear(4, 2), (1, 4)).capacity_bits
    assert dense_capacity(np.int64(2), [np.int32(2), np.uint8(1)]) == 8
    huge = dense_capacity(np.int32(2**31 - 1), [np.int32(2**31 - 1)])
    assert huge == 2**31 * (2**31 - 1)
    with pytest.raises(InputError, match="positive integers"):
        dense_capacity(2, [True])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_example_has_the_model_s_type(dtype: torch.dtype) -> None:
    (found,), _ = example_input(nn.Linear(3, 2).to(dtype), (3,), device="cpu")
    assert found.dtype == dtype


@pytest.mark.parametrize(
    ("size", "message"), [(784, r"\(784,\)"), ((0, 3), "shape of one sample"), ("3", "shape")]
)
def test_bad_sizes(size, message: str) -> None:
    with pytest.raises(InputError, match=message):
        example_input(nn.Linear(3, 2), size, device="cpu")


def test_what_torch_raises_in_a_model_says_what_went_in() -> None:
    with pytest.raises(InputError, match=r"Linear cannot take a batch of float32 \(5, 7\): mat1 and mat2"):
        forward(nn.Linear(6, 3), (torch.zeros(5, 7),), {})
    with pytest.raises(InputError, match=r"batch of wrong=int64 \(2,\): .*unexpected keyword"):
        forward(nn.Linear(6, 3), (), {"wrong": torch.zeros(2, dtype=torch.int64)})


def test_meta_models_are_refused_by_name() -> None:
    require_weights(nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"'0.weight' lies on the meta device"):
        require_weights(nn.Sequential(nn.Linear(2, 2, device="meta")))
