"""Reports as frames and LaTeX: exact sums however large, and names printed as they are."""

import pandas as pd
import pytest

from capacity.report import CapacityReport, LayerCapacity, escape_latex


def report(*bits: int, name: str = "layer") -> CapacityReport:
    layers = [
        LayerCapacity(f"{name}{k}", "dense", n, n if k else None, 1, n, 32 * n) for k, n in enumerate(bits)
    ]
    return CapacityReport(tuple(layers), "previous", "all", False, "(1,)", sum(bits))


@pytest.mark.parametrize("bits", [(2**62, 2**62), (2**63, 1), (2**64, 7), (2**70, 3, 2**70)])
def test_sums_beyond_64_bits_are_exact(bits: tuple[int, ...]) -> None:
    found = report(*bits)
    frame = found.to_frame()
    for column in ("parameters", "capacity_bits"):
        assert (
            frame[column].tolist() == list(bits) and frame[column].sum() == sum(bits) == found.capacity_bits
        )
    assert frame["storage_bits"].sum() == 32 * sum(bits)
    assert pd.isna(frame["input_bits"][0]) and frame["input_bits"][1] == bits[1]
    assert f"{sum(bits):,}".replace(",", r"\,") in found.to_latex()


def test_ordinary_numbers_keep_their_types() -> None:
    kinds = report(5, 6).to_frame().dtypes
    assert kinds["capacity_bits"] == "int64" and kinds["input_bits"] == "Int64"


def test_special_characters_of_latex_print_as_they_are() -> None:
    assert escape_latex(r"C:\data\~me^2") == (
        r"C:\textbackslash{}data\textbackslash{}\textasciitilde{}me\textasciicircum{}2"
    )
    assert escape_latex("a_b % & # $ {x}") == r"a\_b \% \& \# \$ \{x\}"
    assert escape_latex("\\input secret") == r"\textbackslash{}input secret" and "\n" not in escape_latex(
        "a\n\nb"
    )
    assert r"\textbackslash{}input\_0" in report(5, name="\\input_").to_latex()
