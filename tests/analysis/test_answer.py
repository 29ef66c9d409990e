"""The table that answers the title: from recorded runs, as README has it; bad input by name."""

from pathlib import Path

import pytest

from analysis.adequate_size.report import size_outcome
from analysis.answer import RECORDED, RECORDS, advice_without, main, table
from analysis.lab.runs.loading import finished, read_table
from capacity.recommendation import recorded

ROOT = Path(__file__).parents[2]
DESCRIBED, SIZED = RECORDS / "description-mnist", RECORDS / "adequate-mnist"


def test_readme_has_the_table_that_the_command_prints(capsys) -> None:
    main(["--markdown"])
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(printed) > 10 and "\n".join(printed) + "\n" in readme
    assert max(map(len, printed)) <= 80


def test_it_fits_a_terminal_of_80_columns() -> None:
    text = table([finished(RECORDS / name) for name in RECORDED]).text(80)
    assert max(map(len, text.splitlines())) <= 80 and "mnist" in text.splitlines()[0]


def test_the_numbers_are_those_of_the_runs() -> None:
    answers = {row["question"]: row["mnist"] for row in table([finished(DESCRIBED), finished(SIZED)]).rows}
    frame = finished(DESCRIBED).frame
    assert set(frame["labels"]) == {"true"}
    least = frame["top1_error_bound"].min()
    assert answers["least error that a file guarantees [%]"] == f"{100 * least:.1f}"
    files = frame[frame["code"] == "file"].groupby("density")["description_bits"].mean()
    assert answers["the labels, told with that file [bit]"].startswith(f"{files.min():,.0f} ±")
    assert (
        answers["smallest adequate found [hidden units]"]
        == f"{size_outcome(finished(SIZED).frame).adequate:,}"
    )


def test_advice_for_data_leaves_these_data_and_their_variants_out() -> None:
    assert advice_without("mnist") == recorded("pilot")
    assert advice_without("digits").data_sets == recorded("pilot").data_sets - 5
    assert advice_without("wine").data_sets == recorded("pilot").data_sets - 1


def test_foretold_lies_within_the_factor_that_readme_names() -> None:
    factors = [
        2 ** size_outcome(finished(RECORDS / f"adequate-{name}").frame, advice_without(name)).octaves
        for name in ("digits", "mnist")
    ]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"foretold the size within a factor of {max(factors):.1f}" in readme


def test_words_that_look_like_truths_stay_words(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("labels,steady\ntrue,True\ntrue,False\n", encoding="utf-8")
    frame = read_table(tmp_path / "a.csv")
    assert frame["labels"].tolist() == ["true", "true"] and frame["steady"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([RECORDS / "sizing"], "is a run of sizing; the table needs description_length and adequate_size"),
        ([DESCRIBED], "mnist has no run of adequate_size: python -m analysis.adequate_size"),
        ([DESCRIBED, DESCRIBED], "two runs of description_length on mnist"),
    ],
)
def test_bad_input(runs: list[Path], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as ending:
        main([str(run) for run in runs])
    error = capsys.readouterr().err
    assert ending.value.code == 2 and message in error and error.count("\n") == 1
