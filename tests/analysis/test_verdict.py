"""Verdicts: what each word needs, what no interval can buy, how often chance counts as a difference."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.lab.measurement.verdict import (
    Estimate,
    Judgement,
    Verdict,
    compare,
    demonstration,
    difference,
    exact,
    matches,
    not_run,
    together,
)
from capacity import mean_half_width

MEANS = st.floats(-1, 1)
HALVES = st.floats(0, 1)
SURE = {Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.EXACT}


@given(MEANS, HALVES, MEANS, HALVES, st.floats(0, 0.1))
def test_better_and_worse_are_opposite(a: float, u: float, b: float, v: float, margin: float) -> None:
    one, two = Estimate(a, u), Estimate(b, v)
    there, back = (compare(*pair, margin=margin).verdict for pair in ((one, two), (two, one)))
    turned = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    assert back == turned.get(there, there)
    assert compare(one, two, margin=margin, lower_is_better=False).verdict == back


@given(MEANS, HALVES, HALVES)
def test_a_wider_interval_decides_no_more(gap: float, half: float, more: float) -> None:
    narrow, wide = (difference(Estimate(gap, h)) for h in (half, half + more))
    assert wide.verdict not in SURE or narrow.verdict in SURE
    assert not wide.not_worse or narrow.not_worse


@given(MEANS, HALVES)
def test_equivalent_needs_both_bounds_inside(gap: float, half: float) -> None:
    if difference(Estimate(gap, half)).verdict == Verdict.EQUIVALENT:
        assert max(abs(gap - half), abs(gap + half)) < 0.005 + 1e-12
    assert difference(Estimate(gap, 0.005)).verdict != Verdict.EQUIVALENT


@given(MEANS, MEANS)
def test_one_seed_gives_no_verdict_unless_exact(a: float, b: float) -> None:
    found = compare(Estimate(a), Estimate(b, 0.0))
    assert found.verdict == (Verdict.EXACT if a == b else Verdict.ONE_SEED)
    assert a == b or not found.not_worse


def test_a_quick_pass_gives_no_verdict() -> None:
    found = compare(Estimate(0.1, 0.0), Estimate(0.2, 0.0), quick=True)
    assert found.verdict == Verdict.QUICK_PASS and not found.not_worse


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_chance_is_taken_for_a_difference_in_five_of_a_hundred(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(0, 0.02, (2000, seeds))
    words = [difference(Estimate(v.mean(), mean_half_width(v.tolist())), margin=0).verdict for v in values]
    false = sum(word in (Verdict.BETTER, Verdict.WORSE) for word in words) / len(words)
    assert 0.035 <= false <= 0.06


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_what_lies_at_the_margin_is_called_equivalent_in_five_of_a_hundred_at_most(seeds: int) -> None:
    """2,000 simulations; a wide interval earns nothing. Of ten seeds equal ones are found in eight of ten."""

    def share(gap: float, spread: float) -> float:
        values = np.random.default_rng(seeds).normal(gap, spread, (2000, seeds))
        found = [difference(Estimate(v.mean(), mean_half_width(v.tolist()))).verdict for v in values]
        return found.count(Verdict.EQUIVALENT) / len(found)

    for spread in (0.0005, 0.002, 0.02):
        assert share(0.005, spread) <= 0.05
    assert share(0.0, 0.02) < 0.05
    assert seeds < 10 or share(0.0, 0.004) > 0.8


def test_printed_digits_and_demonstrations() -> None:
    assert matches(4.2, "4.20") and not matches(4.21, "4.20") and not matches(math.nan, "4")
    assert exact(True, True).verdict == Verdict.EXACT
    assert exact(True, False).verdict == exact().verdict == Verdict.DIFFERENT
    table = {(False, True): Verdict.WRONG, (True, True): Verdict.EXACT, (True, False): Verdict.EXACT,
             (False, False): Verdict.DIFFERENT}  # fmt: skip
    for (printed, corrected), word in table.items():
        assert demonstration(printed=printed, corrected=corrected).verdict == word
    assert not_run("1e15 operations").reason == "1e15 operations"


def test_several_counts_together() -> None:
    better, worse, unsure, one = (
        Judgement(word) for word in (Verdict.BETTER, Verdict.WORSE, Verdict.UNDECIDED, Verdict.ONE_SEED)
    )
    assert together(better, better).verdict == Verdict.BETTER
    assert together(better, unsure).verdict == Verdict.UNDECIDED
    assert together(better, worse).verdict == Verdict.WORSE
    assert together(worse, one).verdict == Verdict.ONE_SEED
