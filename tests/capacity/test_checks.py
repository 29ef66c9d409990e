"""Arguments of a wrong kind are refused by name before a function does anything."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from capacity import InputError, checks

KINDS = [
    (checks.integer, [3, -1, np.int64(3), torch.tensor(3)],
     [1.5, "3", None, True, [3], torch.tensor([1, 2])]),
    (checks.number, [3, 0.5, math.inf, np.float32(0.5), torch.tensor(0.5)], ["3", None, True, math.nan, []]),
    (checks.real, [math.nan, 0.5], ["3", None]),
    (checks.seed, [0, np.int64(3)], [-1, 0.5, None]),
    (checks.flag, [True, 0, torch.tensor(True)], ["yes", None, 0.5, torch.zeros(2), -1, 2]),
    (checks.names, [["a"], (), np.array(["a", "b"])], ["a", None, ["a", 1], {"a": 1}, torch.tensor(0)]),
    (checks.tensor, [torch.zeros(2), np.zeros(2)], [[0], None, np.array(["a"])]),
    (checks.path, ["a", Path("a")], ["", None, 3, b"a", ["a"]]),
    (checks.array, [torch.zeros(2), np.zeros(2)], [[0, 0], None, "x"]),
    (checks.table, [torch.zeros(2), [[0], [1]], [1, 2]],
     [None, [[0], [1, 2]], "word", {"a": 1}, {1, 2}, 3, nn.Linear, nn.Linear(1, 1)]),
    (checks.module, [nn.Linear(1, 1)], [nn.Linear, None, {}]),
    (checks.instance(int), [3], ["3", None]),
    (checks.function(1), [len, abs, lambda x: x], [None, lambda: 1, lambda x, y: 1, nn.Linear(1, 1), float]),
    (checks.function(0), [lambda: 1, list], [lambda x: x, "list"]),
    (checks.optional(checks.integer), [None, 3], ["3"]),
    (checks.each(checks.integer), [[1, 2], (), np.arange(3)], [3, "12", None, [1, "2"], iter([1]), {1: 2}]),
]  # fmt: skip


@pytest.mark.parametrize(("check", "right", "wrong"), KINDS)
def test_a_kind_lets_its_own_through_and_names_what_is_not(check, right, wrong) -> None:
    for value in right:
        check("thing", value)
    for value in wrong:
        with pytest.raises(InputError, match=r"thing(\[1\])? must be"):
            check("thing", value)


def test_numbers_of_numpy_and_of_tensors_go_on_as_python_s_own() -> None:
    given = checks.arguments(a=checks.integer, b=checks.number, c=checks.each(checks.count), d=checks.flag)(
        lambda a, b, c, d: (a, b, c, d)
    )
    found = given(np.uint8(200), torch.tensor(0.5), np.array([1, 2]), 1)
    assert found == (200, 0.5, [1, 2], True)
    assert [type(part) for part in (*found[:2], *found[2], found[3])] == [int, float, int, int, bool]
    with pytest.raises(InputError, match="b must be a number below 1e308"):
        checks.number("b", 10**400)


@pytest.mark.parametrize("given", ["weigth", np.array(["weight", "neuron"]), None, torch.ones(2), ["weight"]])
def test_one_of_a_few_words_is_named_with_what_was_found(given) -> None:
    checks.word("weight", "neuron")("unit", "weight")
    with pytest.raises(InputError, match=r"^unknown unit .*\(known: weight, neuron\)$"):
        checks.word("weight", "neuron")("unit", given)


@pytest.mark.parametrize("check", [checks.array, checks.tensor, checks.table])
def test_tensors_without_numbers_are_refused(check) -> None:
    with pytest.raises(InputError, match="labels lies on the meta device"):
        check("labels", torch.zeros(2, device="meta"))


@checks.arguments(count=checks.integer, share=checks.optional(checks.number))
def multiplied(word: str, count: int, *, share: float | None = None) -> str:
    """Words."""
    return word * count


@given(st.text(max_size=3), st.integers(0, 3), st.none() | st.floats(allow_nan=False))
def test_a_checked_function_is_the_function(word: str, count: int, share: float | None) -> None:
    assert multiplied(word, count, share=share) == multiplied(count=count, word=word) == word * count


def test_wrong_calls_are_said_as_python_says_them_and_wrong_kinds_as_ours() -> None:
    assert multiplied.__doc__ == "Words."
    with pytest.raises(TypeError, match="count"):
        multiplied("a")
    with pytest.raises(InputError, match="count must be a whole number, found '2' of type str"):
        multiplied("a", "2")
    with pytest.raises(InputError, match="share must be a number, found nan of type float"):
        multiplied("a", 2, share=math.nan)


def test_what_is_long_is_named_by_its_type() -> None:
    with pytest.raises(InputError, match=r"^count must be a whole number, found one of type Sequential$"):
        multiplied("a", nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4)))


def test_a_check_of_no_argument_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError, match="has no argument"):
        checks.arguments(nothing=checks.integer)(multiplied)


@pytest.mark.parametrize("name", ["a\0b", "x" * 256, "folder/" + "é" * 128, Path("y" * 300) / "z"])
def test_names_that_no_file_can_have_are_refused(name) -> None:
    with pytest.raises(InputError, match="target is no name that a file can have"):
        checks.path("target", name)
    checks.path("target", "é" * 127 + "/" + "x" * 255)
