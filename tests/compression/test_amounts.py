"""Counts and fractions: every numeric type, what may have been meant, and what fits."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from capacity import InputError
from compression.amounts import number_of, plain_amount
from compression.criteria import L1
from compression.pruning import prune


@pytest.mark.parametrize(
    ("given", "plain"),
    [(5, 5), (np.int64(5), 5), (np.uint8(5), 5), (0.5, 0.5), (np.float32(0.5), 0.5), (Fraction(1, 4), 0.25)],
)
def test_numbers_of_any_type(given, plain) -> None:
    found = plain_amount(given)
    assert found == plain and type(found) is type(plain)
    result = prune(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), L1(), amount=given)
    assert type(result.requested) is type(plain) and type(result.achieved) is type(plain)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (80.0, "for 80 of them pass the int 80; for 80 % pass 0.8"),
        (1.0, "for 1 of them pass the int 1; all of them cannot go"),
        (np.float64(1.5), "for 1.5 % pass 0.015"),
        (True, "a truth value is no count"),
        (np.True_, "a truth value is no count"),
        (np.int64(0), "found np.int64\\(0\\)"),
        (float("inf"), "found inf of type float$"),
        ("0.5", "found '0.5' of type str$"),
        (None, "found None of type NoneType$"),
        (torch.tensor(0.5), "found tensor"),
    ],
)
def test_what_may_have_been_meant(given, hint) -> None:
    with pytest.raises(InputError, match=f"amount must be an int of at least 1.*{hint}"):
        plain_amount(given)


def test_a_count_beyond_what_is_there_names_the_fraction() -> None:
    model = nn.Sequential(nn.Linear(4, 10), nn.Linear(10, 2))
    message = "layer '0' has 40 left, and at least one must stay .80 is a count; the fraction would be 0.8"
    with pytest.raises(InputError, match=message):
        prune(model, L1(), amount=80)
    with pytest.raises(InputError, match="the layers together have 60 left"):
        prune(model, L1(), amount=60, scope="global", layers=["0", "1"])


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.one_of(st.integers(1, 40), st.floats(0.01, 0.99)),
    st.integers(0, 3),
)
def test_what_fits_is_what_is_asked_for_but_where_layers_keep_some(alive, amount, keep) -> None:
    room = [max(0, count - keep) for count in alive]
    asked = amount if isinstance(amount, int) else round(amount * sum(alive))
    too_many = asked >= sum(alive) if len(alive) > 1 else isinstance(amount, int) and asked > sum(room)
    if asked and too_many:
        with pytest.raises(InputError, match="cannot prune"):
            number_of(amount, alive, room, what="a layer has|weights", keep=keep)
    else:
        number = number_of(amount, alive, room, what="a layer has|weights", keep=keep)
        assert number == (min(asked, sum(room)), asked)
