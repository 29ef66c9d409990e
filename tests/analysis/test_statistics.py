"""Intervals over seeds against scipy."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, ttest_1samp

from analysis.lab.measurement.statistics import paired_difference, summarize
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity import mean_half_width


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=10))
def test_half_width_is_scipys(values: list[float]) -> None:
    if np.std(values) < 1e-6:
        return
    interval = ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_half_width(pd.Series(values)) == pytest.approx((interval.high - interval.low) / 2, rel=1e-6)


def test_one_value_has_no_interval() -> None:
    assert np.isnan(mean_half_width(pd.Series([1.0])))


def test_it_is_near_a_bootstrap_for_many_values() -> None:
    values = np.random.default_rng(0).normal(size=200)
    interval = bootstrap((values,), np.mean, rng=np.random.default_rng(1)).confidence_interval
    assert mean_half_width(pd.Series(values)) == pytest.approx((interval.high - interval.low) / 2, rel=0.1)


def test_pairs_remove_what_seeds_share() -> None:
    frame = pd.DataFrame(
        {"seed": [0, 0, 1, 1], "step": [0] * 4, "criterion": ["l1", "control"] * 2, "x": [5.0, 4.0, 9.0, 8.0]}
    )
    row = paired_difference(frame, "x", against="control").iloc[0]
    assert row["x_difference_mean"] == 1 and row["x_difference_half_width"] == 0
    assert summarize(frame, ["criterion"], ["x"])["x_mean"].tolist() == [7, 6]


def test_a_group_with_a_missing_value_has_a_mean_and_no_interval() -> None:
    frame = pd.DataFrame({"scheme": ["a", "a", "b", "b"], "seconds": [1.0, 3.0, 2.0, float("nan")]})
    means = summarize(frame, ["scheme"], ["seconds"]).set_index("scheme")
    assert means["seconds_mean"].tolist() == [2.0, 2.0]
    assert means.loc["a", "seconds_half_width"] == pytest.approx(12.706, abs=1e-3)
    assert pd.isna(means.loc["b", "seconds_half_width"])


def test_what_is_never_measured_has_no_mean() -> None:
    frame = pd.DataFrame(
        {"name": ["a", "a", "b"], "top5_error": [None] * 3, "top1_error": [0.25, 0.75, None]}
    )
    means = summarize(frame, ["name"], ["top1_error", "top5_error", "absent"]).set_index("name")
    assert means["top5_error_mean"].isna().all() and means["top5_error_half_width"].isna().all()
    assert means["top1_error_mean"].tolist()[:1] == [0.5] and np.isnan(means.loc["b", "top1_error_mean"])
    assert not any("absent" in name for name in means)


def test_a_summary_is_computed_once_for_the_same_rows_and_anew_for_changed_ones() -> None:
    calls = []

    @once_for_the_same_rows
    def summary(frame: pd.DataFrame) -> pd.DataFrame:
        calls.append(len(frame))
        return frame.groupby("name", as_index=False)["error"].mean()

    rows = pd.DataFrame({"name": ["a", "a", "b"], "error": [0.25, 0.75, 0.5]})
    first = summary(rows)
    first["error"] = 7.0  # the caller's own
    assert summary(rows)["error"].tolist() == [0.5, 0.5] and calls == [3]
    rows.loc[2, "error"] = 1.0
    assert summary(rows)["error"].tolist() == [0.5, 1.0] and calls == [3, 3]
    assert summary(rows.iloc[:2])["error"].tolist() == [0.5] and calls == [3, 3, 2]
