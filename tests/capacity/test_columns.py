"""Numbers as they are written: digits from the interval, no 1e-05, nothing where there is no value."""

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.columns import Column, number, seeds, with_interval

ERROR = Column("error", "top-1 error", "%", factor=100, style=".2f", better="lower", importance=3)


@pytest.mark.parametrize(
    ("mean", "half", "style", "text"),
    [
        (2.0370, 0.0301, ".2f", "2.037 ± 0.030"),
        (350.6667, 5.171, ".1f", "350.7 ± 5.2"),
        (12345.6, 250.0, ",.0f", "12,346 ± 250"),
        (-0.28, 0.5, "+.2f", "-0.28 ± 0.50"),
        (0.28, 0.5, "+.2f", "+0.28 ± 0.50"),
        (17216.0, 0.0, ",.0f", "17,216"),
        (0.198, 8e-17, ".3f", "0.198"),
        (0.5, math.nan, ".2f", "0.50"),
        (9.237e-05, 3.0e-07, ".3g", "(9.237 ± 0.030)·10⁻⁵"),
        (0.0175, 0.00012, ".3g", "0.01750 ± 0.00012"),
    ],
)
def test_a_mean_has_the_digits_of_its_interval(mean: float, half: float, style: str, text: str) -> None:
    assert with_interval(mean, half, style) == text


@given(st.floats(1e-9, 1e9), st.floats(-9, 0))
def test_an_interval_has_two_significant_digits_and_the_mean_as_many_decimals(mean, power) -> None:
    half = mean * 10**power
    text = with_interval(mean, half, ".3g")
    if "±" not in text:
        return
    scale = (
        10 ** int("".join("-0123456789"["⁻⁰¹²³⁴⁵⁶⁷⁸⁹".index(c)] for c in text.split("10")[-1]))
        if "·" in text
        else 1
    )
    shown, width = (float(part.strip("() ").replace(",", "")) for part in text.split("·")[0].split("±"))
    assert abs(width * scale - half) <= max(0.051 * half, 0.5 * (half >= 10))
    assert abs(shown * scale - mean) <= max(0.051 * half, 0.5 * (half >= 10))
    decimals = [len(part.strip("() ").partition(".")[2]) for part in text.split("·")[0].split("±")]
    assert decimals[0] == decimals[1]


@given(st.floats(allow_nan=False), st.sampled_from([".3g", ",.4g", ".2f", ",.0f", ""]))
def test_no_number_is_written_in_the_computer_s_way(value: float, style: str) -> None:
    text = number(value, style)
    assert "e" not in text and "nan" not in text and "inf" not in text


@pytest.mark.parametrize("value", [None, math.nan, pd.NA, ""])
def test_what_is_missing_leaves_an_empty_cell(value) -> None:
    assert ERROR.cell({"error": value}) == "" == ERROR.cell({})
    assert Column("cap", "cap", style=",", missing="no cap").cell({"cap": value}) == "no cap"


def test_a_row_s_value_is_a_number_a_mean_or_computed() -> None:
    assert ERROR.cell({"error": 0.0259}) == "2.59"
    assert ERROR.cell({"error_mean": 0.0259, "error_half_width": 0.0014}) == "2.59 ± 0.14"
    assert ERROR.cell({"error_mean": 0.0259, "error_half_width": math.nan}) == "2.59"
    assert Column("twice", "", style="g", value=lambda row: 2 * row["x"]).cell({"x": 3}) == "6"
    assert Column("wide", "", style=",").cell({"wide": 2**70}) == f"{2**70:,}"
    assert (
        Column("how", "").cell({"how": ("a", "b\n c")}) == "a, b\n c"
        and Column("on", "").cell({"on": True}) == "yes"
    )


def test_headers_name_unit_and_reference() -> None:
    assert ERROR.heading == "top-1 error [%]"
    against = Column("gap", "error", "points", against="float", style="+.2f")
    assert against.heading == "error - float [points]" and re.match("error - float", against.title)
    assert seeds(1) == "1 seed" and seeds(3) == "3 seeds"
