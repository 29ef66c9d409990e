"""Notebooks that execute, ten questions answered from a run, documents in three forms; bad input."""

import json
import os
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from running import run_command
from torch import nn

from analysis.lab.data.datasets import load
from analysis.lab.measurement.robustness import ensemble, fgsm, kappa_of, normalized, robustness_curve, scaled
from analysis.lab.reporting.documents import Section, executed, shown, to_latex, to_markdown, to_notebook
from analysis.lab.runs.loading import finished, opening_code, runs_below
from analysis.notebook import main as notebook_main
from analysis.questionnaire import main as questionnaire_main
from capacity.errors import InputError

RECORDED = Path(__file__).parents[2] / "paper" / "runs" / "students-mnist"
SMALL = ["--seeds", "2", "--epochs", "4", "--retrain-epochs", "1", "--iterations", "2", "--limit", "600"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "curve"
    done = run_command("capacity_curve", *SMALL, "--output", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def outputs_of(path: Path) -> list[str]:
    """All that the cells of code have put out, as text; they were run in order."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    return [json.dumps(cell.outputs) for cell in cells]


@pytest.fixture(scope="module")
def notebook(run: Path) -> Path:
    notebook_main([str(run)])
    return run / "notebook.ipynb"


def test_a_notebook_of_a_run_has_computed_it_again(run: Path, notebook: Path) -> None:
    outputs = outputs_of(notebook)
    assert len(outputs) == 4 and "image/png" in outputs[2]
    assert f"{finished(run).frame['top1_error'].iloc[0]:.6f}"[:8] in outputs[3]


def test_a_notebook_tells_the_story_and_names_no_folder_of_this_machine(run: Path, notebook: Path) -> None:
    book = nbformat.read(notebook, as_version=4)
    text = "\n".join(cell.source for cell in book.cells)
    found = finished(run)
    assert found.story is not None and found.call in text
    for line in (found.story.question, *found.done(), *found.headline(), *found.story.caveats(found.config)):
        assert shown(line) in text, line
    assert str(run.parent) not in notebook.read_text() and "finished('.')" in text


def test_a_notebook_elsewhere_reads_the_run_by_a_relative_path(
    run: Path, notebook: Path, tmp_path: Path
) -> None:
    notebook_main([str(run), "--output", str(tmp_path / "mine.ipynb")])
    way = Path(os.path.relpath(run, tmp_path)).as_posix()
    found = (tmp_path / "mine.ipynb").read_text()
    assert found.replace(f"finished('{way}')", "finished('.')") == notebook.read_text()  # byte for byte


def test_nothing_is_imported_from_the_folder_of_a_notebook(tmp_path: Path) -> None:
    for name in ("pandas", "ipykernel_launcher", "analysis", "IPython", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the run folder')")
    code = opening_code(RECORDED, tmp_path) + "len(run.frame)"
    book = nbformat.reads(executed(to_notebook("T", [Section("S", [], code=code)]), tmp_path), as_version=4)
    (output,) = book.cells[-1].outputs
    assert output.data["text/plain"] == str(len(finished(RECORDED).frame))


def test_a_cell_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a cell of the notebook fails: ZeroDivisionError: .*zero$"):
        executed(to_notebook("T", [Section("S", [], code="1 / 0")]), tmp_path)


def test_names_from_a_stranger_are_text_in_a_notebook() -> None:
    hostile = Section("<b>x</b>", ["<script>alert(1)</script>"], literal="echo ```\n</script>")
    book = nbformat.reads(to_notebook("<img src=x>", [hostile]), as_version=4)
    assert "<" not in book.cells[0].source
    assert book.cells[1].source.endswith("````sh\necho ```\n</script>\n````")
    assert "<" not in book.cells[1].source.partition("````")[0]


def test_ten_questions_from_the_command_line(run: Path) -> None:
    done = run_command("questionnaire", str(run), "--smoke")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    text = (run / "questionnaire.md").read_text()
    assert text in done.stdout and text.count("\n## ") == 10
    for said in ("FGSM top-1 error", "label entropy", "kappa = ", "bits of label", "expected to be needed",
                 "under random labels", "knee of the curve", "held-out training pictures", "gains",
                 "the same, byte for byte"):  # fmt: skip
        assert said in text.replace("\n", " "), said
    assert "\\toprule" in (run / "questionnaire.tex").read_text()
    assert "image/png" in outputs_of(run / "questionnaire.ipynb")[0]


def test_a_finished_run_tells_its_command(run: Path) -> None:
    found = finished(run)
    assert found.call == (
        "python -m analysis.capacity_curve --epochs 4 --iterations 2 --limit 600 --retrain-epochs 1 --seeds 2"
    ) or set(found.call.split()) >= {"--seeds", "--limit", "600"}
    assert found.config.seeds == 2 and found.config.criterion == ("l1",)
    assert [other.path for other in runs_below(run.parent)] == [run]
    assert len(found.plot().axes) == 2 and found.headline()


def test_the_attack_moves_each_value_by_its_strength_and_raises_the_loss() -> None:
    test = load("digits").test.take(slice(0, 50))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    ((batch, labels),) = test.batches(50)
    pictures = scaled(test, batch)
    assert float(pictures.min()) >= -1e-6 and float(pictures.max()) <= 1 + 1e-6
    torch.testing.assert_close(normalized(test, pictures), batch)
    moved = fgsm(model, test, pictures, labels, 0.1)
    change = (moved - pictures).abs()
    inside = (pictures > 0.1) & (pictures < 0.9)
    torch.testing.assert_close(change[inside], torch.full_like(change[inside], 0.1))
    assert float(change.max()) <= 0.1 + 1e-6
    loss = nn.functional.cross_entropy
    assert loss(model(normalized(test, moved)), labels) > loss(model(batch), labels)
    frame = robustness_curve(model, test, strengths=(0.01, 0.3))
    assert list(frame["strength"]) == [0.01, 0.3] and frame["fgsm_top1_error"].is_monotonic_increasing


def test_agreement_and_combination() -> None:
    from sklearn.metrics import cohen_kappa_score

    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    found = torch.tensor([0, 1, 2, 1, 1, 2]).numpy()
    assert kappa_of(found, labels, 3) == pytest.approx(cohen_kappa_score(found, labels))
    sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert ensemble([sure, unsure]).tolist() == [0] and ensemble([unsure, unsure, sure / 8]).tolist() == [1]


def test_three_forms_of_a_document() -> None:
    table = pd.DataFrame({"name": ["a_b", "c|d"], "value [%]": [0.5, 12345]})
    sections = [Section("One & two", ["50 % of it."], table, "picture"), Section("Code", [], code="1 + 1")]
    markdown = to_markdown("T", sections)
    assert "| c\\|d | 1.234e+04 |" in markdown and "![One &amp; two]" in markdown
    latex = to_latex(sections)
    assert r"One \& two" in latex and r"50 \% of it." in latex and r"a\_b" in latex and "picture.pdf" in latex
    book = nbformat.reads(to_notebook("T", sections), as_version=4)
    assert [cell.cell_type for cell in book.cells] == ["markdown", "markdown", "markdown", "code"]


@pytest.mark.parametrize("main", [notebook_main, questionnaire_main])
def test_what_is_no_run_is_refused(main, tmp_path: Path, run: Path, capsys) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_bytes((run / "config.json").read_bytes())
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"command": "rm", "settings": {}}')
    cases = [([str(tmp_path)], "no run folder"), ([], "name a run folder"),
             ([str(unfinished)], "not come to its end"), ([str(foreign)], "run of 'rm'")]  # fmt: skip
    for arguments, message in cases:
        with pytest.raises(SystemExit) as ending:
            main(arguments)
        error = capsys.readouterr().err
        assert ending.value.code == 2 and message in error and error.count("\n") == 1


def test_questions_need_the_networks(run: Path, tmp_path: Path, capsys) -> None:
    import shutil

    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "seed-1" / "trained.safetensors").unlink()
    with pytest.raises(SystemExit):
        questionnaire_main([str(copy), "--smoke"])
    assert "the run's networks are gone" in capsys.readouterr().err
