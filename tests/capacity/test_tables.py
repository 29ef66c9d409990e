"""Tables fit: what has no room is named, no name is cut; in LaTeX, HTML and consoles with few characters."""

import io
import re
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity import InputError
from capacity.columns import KEY, Column
from capacity.latex import VENUES, em, number_in_latex, words_in_latex
from capacity.tables import Statement, Table, Tabular

COLUMNS = (
    Column("name", "layer", importance=KEY),
    Column("bits", "capacity", "bit", style=",", importance=5),
    Column("error", "top-1 error", "%", factor=100, style=".2f", better="lower", importance=9),
    Column("gap", "error", "points", factor=100, style="+.2f", against="control", importance=4),
    Column("rho", "rho", "points/bit", r"$\rho$", style=".3g", better="higher", importance=3),
    Column("reason", "left whole because", prose=True),
)
ROWS = [
    {"name": "features.0", "bits": 1_792, "error_mean": 0.0123, "error_half_width": 0.002, "gap": 0.01,
     "rho": 0.2},
    {"name": "classifier_head", "bits": 25_088, "error_mean": 0.02, "error_half_width": 0.003, "gap": -0.01,
     "rho": 0.00004, "reason": "its outputs are added to those of another layer, which is to stay as it is"},
]  # fmt: skip
TABLE = Table(COLUMNS, ROWS, "A title, 50 %", ("a note",), {"name": "total", "bits": 26_880}, label="tab:a")


def test_a_wide_terminal_shows_all_side_by_side() -> None:
    lines = TABLE.text(200).splitlines()
    assert lines[0].split("  ")[0] == "layer" and "error - control [points]" in lines[0]
    assert re.split(r"  +", lines[3])[:5] == ["classifier_head", "25,088", "2.00 ± 0.30", "-1.00", "4·10⁻⁵"]
    assert lines[3].endswith(str(ROWS[1]["reason"])) and lines[-1].split() == ["total", "26,880"]
    assert TABLE.text(wide=True).splitlines() == lines


def test_a_narrow_one_breaks_headers_then_drops_the_least_important() -> None:
    eighty, forty = TABLE.text(80), TABLE.text(40)
    assert "more column" not in eighty and "    left whole because: its outputs are added" in eighty
    assert "2 more columns in .to_frame(): error - control [points]; rho [points/bit]" in " ".join(
        forty.split()
    )
    assert "[bit]" in forty and "capacity [bit]" not in forty.split("more")[0]


@given(
    st.lists(st.text("abc._", min_size=1, max_size=30), min_size=1, max_size=4),
    st.lists(st.integers(0, 10**12), min_size=1, max_size=8), st.integers(34, 150),
)  # fmt: skip
def test_no_line_is_too_long_and_no_name_is_cut(names, values, width) -> None:
    columns = [Column("name", "layer", importance=KEY)]
    columns += [
        Column(f"c{k}", f"some column {k}", "unit", style=",", importance=k) for k in range(len(values))
    ]
    rows = [{"name": name} | {f"c{k}": value for k, value in enumerate(values)} for name in names]
    text = Table(columns, rows).text(width)
    assert max(map(len, text.splitlines())) <= width and all(name in text for name in names)
    shown, _, told = text.partition("more column")
    gone = sum(f"some column {k} [unit]" in " ".join(told.split()) for k in range(len(values)))
    assert all(f"{values[k]:,}" in shown for k in range(gone, len(values)))


def test_names_longer_than_the_terminal_stand_on_their_own_lines() -> None:
    rows = [{"name": "x" * 50, "bits": 7}, {"name": "y", "bits": 8}]
    lines = Table(COLUMNS[:2], rows, total={"name": "total", "bits": 15}).text(30).splitlines()
    values = [line.strip() for line in lines[3:]]
    assert lines[0] == "layer" and values == ["x" * 50, "7", "y", "8", "total", values[5], "15"]


@pytest.mark.parametrize(("encoding", "sign"), [("ascii", "+/-"), ("cp1252", "±"), ("utf-8", "±")])
def test_columns_stay_in_line_on_consoles_with_few_characters(monkeypatch, encoding: str, sign: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    text = TABLE.text(200)
    lines = text.encode(encoding).decode(encoding).splitlines()
    column = lines[0].index("top-1 error [%]") + len("top-1 error [%]")
    assert [line[:column].endswith(end) for line, end in zip(lines[2:4], ("0.20", "0.30"), strict=True)] == [
        True
    ] * 2
    assert sign in text


def test_the_frame_holds_what_was_stored_and_integers_stay_integers() -> None:
    frame = TABLE.to_frame()
    assert frame["error_mean"].tolist() == [0.0123, 0.02] and frame["bits"].dtype == "int64"
    empty = Table(COLUMNS, [{"bits": None}, {"bits": 3}]).to_frame()
    assert empty["bits"].dtype == "Int64" and pd.isna(empty["bits"][0])
    assert Table(COLUMNS, []).to_frame().columns.tolist() == [column.name for column in COLUMNS]


def test_html_and_markdown_escape_what_they_must() -> None:
    table = Table(COLUMNS[:2], [{"name": "<b>|&", "bits": 1_000}], "a < b", ("note",))
    assert (
        '<td style="text-align: left">&lt;b&gt;|&amp;</td>' in table.to_html()
        and "<p>a &lt; b</p>" in table.to_html()
    )
    assert table.to_markdown().splitlines()[2] == r"| <b>\|& | 1,000 |"

    class Result(Tabular):
        def table(self) -> Table:
            return table

    class Sentence(Statement):
        def __str__(self) -> str:
            return "a\n<b>"

    assert Result()._repr_html_() == table.to_html() and str(Result()).splitlines()[0] == "a < b"
    assert Sentence()._repr_html_() == "<p>a</p><p>&lt;b&gt;</p>"


def test_latex_names_caption_label_packages_and_what_had_no_room() -> None:
    tex = TABLE.to_latex(venue="neurips")
    assert r"\centering" in tex and r"\caption{A title, 50 \%}" in tex and r"\label{tab:a}" in tex
    assert tex.startswith(r"% needs \usepackage{array, booktabs}") and r"classifier\_head" in tex
    assert r"$1.23 \pm 0.20$" in tex and r"$4 \cdot 10^{-5}$" in tex and r"$\downarrow$" in tex
    assert r"$-$ control" in tex and r"total & $26\,880$ &  &" in tex
    narrow = Table([*COLUMNS[:-1], *(Column(f"c{k}", f"further column {k}", style="g") for k in range(9))],
                   [row | {f"c{k}": 123456 for k in range(9)} for row in ROWS])  # fmt: skip
    assert "% no room at this width for: further column" in narrow.to_latex(venue="ieee-one")
    assert r"\begin{table*}" in TABLE.to_latex(venue="ieee-two")
    assert r"\caption{of \_mine\_}" in TABLE.to_latex(caption="of _mine_", label="x")
    assert len(re.findall(r"\\begin{table}", Table(COLUMNS[:2], ROWS * 60, "long").to_latex())) == 3
    with pytest.raises(InputError, match="unknown venue 'neuripss'; did you mean 'neurips'"):
        TABLE.to_latex(venue="neuripss")


def test_text_and_numbers_in_latex() -> None:
    assert words_in_latex(r"\ ~ ^ _ % & # $ { }") == (
        r"\textbackslash{} \textasciitilde{} \textasciicircum{} \_ \% \& \# \$ \{ \}"
    )
    assert words_in_latex("convention 'previous', ρ → 2") == r"convention `previous', $\rho$ $\rightarrow$ 2"
    assert number_in_latex("-1,234.5 ± 20") == r"$-1\,234.5 \pm 20$" and number_in_latex("no cap") == "no cap"
    assert em("mm") > em("ii") and VENUES["neurips"].text == 5.5
