"""The five reports line by line: exact rows to the last digit, faults shown, runs read; the article."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from running import run_command

from analysis import reproduce
from analysis.distillation_table import Config
from analysis.lab.measurement.verdict import Verdict
from analysis.lab.reporting.figures import fit_venue, save_figure
from analysis.lab.runs.loading import Run, finished, runs_below
from analysis.reproduce.article import RECORDED, full_runs, included_figures, record, style_of
from analysis.reproduce.article_tables import as_latex
from analysis.reproduce.faults import FAULTS
from analysis.reproduce.numbers import macro_name
from analysis.reproduce.surrogates import SURROGATES, _students
from analysis.reproduce.trained import TRAINED, preset_of, trained_lines
from capacity import InputError

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "paper"


@pytest.mark.parametrize(
    ("gap", "word"), [(0.03, Verdict.WORSE), (-0.03, Verdict.BETTER), (0.0, Verdict.EQUIVALENT)]
)
def test_a_surrogate_claim_turns_with_its_measurement(gap: float, word: Verdict) -> None:
    rows = [
        {"seed": seed, "network": "s", "variant": variant, "top1_error": 0.1 + more + 1e-3 * seed,
         "kappa": 0.9, "total_parameters": 1, "capacity_bits": 1, "points_per_bit": 1.0}
        for seed in range(3)
        for variant, more in (("distilled", 0.0), ("cold", gap + 1e-5 * seed))
    ]  # fmt: skip
    run = Run(PAPER / "runs" / "students-mnist", "distillation_table", Config(), pd.DataFrame(rows))
    (claim,) = _students({"distillation_table": run})
    assert claim.verdict == word
    quick = dataclasses.replace(run, config=Config(smoke=True))
    assert next(_students({"distillation_table": quick})).verdict == Verdict.QUICK_PASS


def test_every_fault_is_shown() -> None:
    said = {line.item: line.why for function in FAULTS for line in function()}
    assert "perfect agreement scores 0 and chance 1; they are 1 and 0" in said["Cohen's kappa"]
    shares = re.findall(r"shares (\d+)", said["criteria: L1 and L2 norm, reservoir sampling"])
    assert len(shares) == 3 and max(map(int, shares)) < 20
    assert "0 % of its weights" in said["dropout(100) of the first hidden layer"]
    (unbiased,) = re.findall(r"other 10,000 pictures ([+-]\d\.\d+)", said["best epoch"])
    assert abs(float(unbiased)) < 0.1
    before, after, coded = map(float, re.findall(r"(\d\.\d+) MiB", said["size after pruning 60 %"]))
    assert before == after > 2 * coded


def save_settings(folder: Path, facts: dict) -> None:
    (folder / "config.json").write_text(json.dumps(facts))


def test_trained_lines_are_read_from_the_run_of_their_preset(tmp_path: Path) -> None:
    waiting = {line.item: line for line in trained_lines([])}
    assert len(waiting) == len(TRAINED) and {line.verdict for line in waiting.values()} == {Verdict.NOT_RUN}
    assert all("floating-point operations" in line.why for line in waiting.values())
    folder = tmp_path / "d"
    folder.mkdir()
    facts = {
        "command": "distillation_table", "settings": {"preset": "report-d"},
        "all_settings": {"preset": "report-d", "dataset": "imagefolder:digits"},
    }  # fmt: skip
    rows = [
        {"seed": seed, "network": network, "variant": variant, "top1_error": error + 0.001 * seed,
         "kappa": 0.9, "total_parameters": 1, "capacity_bits": 1, "points_per_bit": 1.0}
        for seed in range(3)
        for network, variant, error in (
            ("cnn_teacher", "teacher", 0.0215), ("cnn_student", "distilled", 0.012),
            ("cnn_student", "alone", 0.013),
        )
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    for quick in ({"smoke": True}, {"limit": 100}):  # whose figures mean nothing
        save_settings(folder, facts | {"all_settings": facts["all_settings"] | quick})
        assert {line.verdict for line in trained_lines(runs_below(tmp_path))} == {Verdict.NOT_RUN}
    save_settings(folder, facts)
    found = {line.item: line for line in trained_lines(runs_below(tmp_path))}
    teacher = found["error of the teacher on MNIST"]
    assert teacher.verdict == Verdict.EQUIVALENT and teacher.why.endswith("on imagefolder:digits")
    student = found["error of the student on MNIST"]
    assert student.verdict == Verdict.BETTER
    assert student.why == "-1.20 points beside published; on imagefolder:digits"
    assert student.recomputed.startswith("1.30 ± 0.2")


@pytest.mark.parametrize(("gap", "verdict"), [(0.004, "equivalent"), (0.006, "worse"), (-0.006, "better")])
def test_a_minimal_reduction_is_at_most_half_a_point(gap: float, verdict: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    settings = {"preset": "report-d", "dataset": "mnist"}
    save_settings(
        folder, {"command": "comparison", "settings": {"preset": "report-d"}, "all_settings": settings}
    )
    rows = [
        {"seed": seed, "technique": technique, "top1_error": 0.01 + 0.0001 * seed + more,
         "mask_only": technique == "masked", "execution": "eager"}
        for seed in range(3)
        for technique, more in (("baseline", 0.0), ("masked", gap), ("masked-int8", 0.0))
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    found = {line.item: line for line in trained_lines(runs_below(tmp_path))}
    line = found["six-layer network, five times sparser"]
    assert line.verdict == verdict and line.published == "minimal reduction"
    assert line.recomputed == f"{100 * gap:+.2f} ± 0.00 points"
    quantized = found["six-layer network, five times sparser, then quantized"]
    assert quantized.verdict in (
        Verdict.EXACT,
        Verdict.EQUIVALENT,
    )


def test_every_published_error_with_a_preset_is_a_line() -> None:
    items = [row.item for row in TRAINED]
    assert len(items) == len(set(items))
    for row in TRAINED:
        config = preset_of(row.command, row.preset)
        assert config.preset == row.preset, row
    assert {row.report for row in TRAINED} == set("ABCDE")


def test_recorded_runs_hold_no_path_of_a_machine(tmp_path: Path) -> None:
    source = PAPER / "runs" / "quantized-lenet5"
    copy = tmp_path / "copy"
    copy.mkdir()
    facts = json.loads((source / "config.json").read_text())
    facts["all_settings"] |= {
        "data": "/somewhere/data",
        "output": "/else",
        "dataset": "imagefolder:/home/x/cats",
    }
    (copy / "config.json").write_text(json.dumps(facts))
    for name in ("environment.json", "results.csv"):
        (copy / name).write_bytes((source / name).read_bytes())
    path = record(copy, tmp_path / "runs")
    text = (path / "config.json").read_text()
    assert (
        "somewhere" not in text and "/else" not in text and "/home" not in text and "imagefolder:cats" in text
    )
    assert finished(path).summary().equals(finished(copy).summary())
    for recorded in (PAPER / "runs").glob("*/config.json"):
        assert '"/' not in recorded.read_text(), recorded


def test_the_article_needs_its_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a finished run of compression_frontier --preset lenet300"):
        full_runs([])
    names = {run.path.name for run in runs_below(PAPER / "runs")}
    assert names >= set(RECORDED)


def test_a_quick_pass_draws_what_the_article_includes(tmp_path: Path) -> None:
    article = tmp_path / "main.tex"
    article.write_text("\\includegraphics{capacity-curve}\n"
                       "\\includegraphics[width=.8\\linewidth]{six-layer}\\hfill")  # fmt: skip
    quick = style_of(reproduce.Config(paper=str(tmp_path), smoke=True))
    assert [quick.draws(name) for name in ("capacity_curve", "six-layer", "comparison")] == [
        True,
        True,
        False,
    ]
    assert style_of(reproduce.Config(paper=str(tmp_path))).draws("comparison")
    assert style_of(reproduce.Config(paper=str(tmp_path), smoke=True, gallery="x")).draws("comparison")
    made = {name.replace("_", "-") for name in (*dict(SURROGATES), *RECORDED)}
    assert included_figures(PAPER / "main.tex") <= made


@pytest.mark.parametrize(("venue", "width"), [("icml", 6.75), ("neurips", 5.5), ("acl", 6.3)])
def test_figures_fit_a_venue(venue: str, width: float, tmp_path: Path) -> None:
    figure = finished(PAPER / "runs" / "quantized-lenet5").plot()
    height = figure.get_size_inches()[1]
    fit_venue(figure, venue)
    assert figure.get_size_inches().tolist() == [width, height]
    with pytest.raises(InputError, match="did you mean 'icml'"):
        fit_venue(figure, "icmll")
    paths = save_figure(figure, tmp_path, "figure", pgf=shutil.which("pdflatex") is not None)
    assert all(path.stat().st_size > 1000 for path in paths)


def test_names_for_tex() -> None:
    assert macro_name("published-lenet5-MIRACLE, 3.03 kB") == "PublishedLenetFiveMiracleThreeZeroThreeKb"
    assert as_latex("-Σ y log(1 - ŷ) & 2^20") == r"-$\Sigma$ y log(1 - $\hat y$) \& 2$^{20}$"


NAMES = (
    r"\\(cite\w*|ref|label|input|rows|includegraphics|documentclass|bibliography\w*)(\[[^\]]*\])?\{[^}]*\}"
)
LAYOUT = (
    r"(\.\d+\\linewidth|\\tabcolsep\}\{\d+pt\}|n_1|n_2|n_\{k-1\}|\(d\+1\)|k>1|\+ ?1\)|k\^2|"
    r"\(1-\\alpha\)|T\^2)"
)


def test_no_digit_of_a_result_is_typed_in_the_article() -> None:
    text = (PAPER / "main.tex").read_text()
    preamble, body = text.split(r"\begin{document}")
    names = set(re.findall(r"\\newcommand\{\\(\w+)\}", preamble))
    assert names <= {
        "VGG",
        "LenetA",
        "LenetB",
        "ResnetA",
        "Cifar",
        "LOne",
        "LTwo",
        "topone",
        "PublishedHead",
        "rows",
    }
    body = re.sub(r"(?m)%.*$", "", body)
    for allowed in (NAMES, LAYOUT, r"QuickPass=1", r"multicolumn\{\d+\}"):
        body = re.sub(allowed, "", body)
    assert not re.findall(r"[^\n]*\d[^\n]*", body)


def test_every_macro_used_is_defined_once(tmp_path: Path) -> None:
    if not (PAPER / "generated" / "numbers.tex").exists():
        pytest.skip("the article's input has not been made here: python -m analysis.reproduce --smoke")
    defined = re.findall(r"\\newcommand\{\\(\w+)\}", (PAPER / "generated" / "numbers.tex").read_text())
    assert len(defined) == len(set(defined))
    cited = set(re.findall(r"\\citep?\{([^}]*)\}", (PAPER / "main.tex").read_text()))
    keys = set(re.findall(r"@\w+\{(\w+),", (PAPER / "references.bib").read_text()))
    assert {key for group in cited for key in group.split(",")} == keys


@pytest.mark.slow
def test_the_article_from_a_quick_pass_twice_is_the_same(tmp_path: Path) -> None:
    if shutil.which("latexmk") is None:
        pytest.skip("latexmk is not installed")
    built = []
    for name in ("one", "two"):
        paper = shutil.copytree(PAPER, tmp_path / name / "paper", ignore=shutil.ignore_patterns("generated"))
        call = ["reproduce", "--smoke", "--output", str(tmp_path / "work"), "--paper", str(paper)]
        done = run_command(*call, "--runs", str(PAPER / "runs"))
        assert done.returncode == 0 and done.stderr == "", done.stderr
        made = subprocess.run(["make", "-C", str(paper)], capture_output=True, text=True)
        assert made.returncode == 0, made.stdout[-2000:]
        built.append((paper / "main.pdf").read_bytes())
    assert built[0] == built[1]
