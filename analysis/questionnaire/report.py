"""Ask the questions, and write the answers in three forms."""

from dataclasses import replace
from pathlib import Path

from analysis.lab.cli import at_least_one
from analysis.questionnaire.config import Config
from capacity.errors import InputError


def start(config: Config) -> None:
    """Answer, print the Markdown, and write all three forms into the run folder."""
    from analysis.lab.reporting.documents import executed, to_latex, to_markdown, to_notebook
    from analysis.lab.runs.directory import RunDirectory
    from analysis.lab.runs.loading import finished, opening_code
    from analysis.lab.runs.progress import progress
    from analysis.questionnaire.questions import QUESTIONS, answers

    at_least_one(config, "memorize_rows", "memorize_epochs")
    if not config.run:
        raise InputError("name a run folder: python -m analysis.questionnaire runs/NAME")
    if not config.strengths or min(config.strengths) <= 0:
        raise InputError(f"strengths must be positive, found {list(config.strengths)}")
    if config.smoke:
        config = replace(config, strengths=config.strengths[:1], memorize_rows=64, memorize_epochs=2)
    run = finished(config.run)
    with progress(len(QUESTIONS), "questions") as on_progress:
        sections = list(answers(run, config, on_progress))
    title = f"Ten questions about {run.config.model} on {run.config.dataset}"
    folder = RunDirectory(Path(config.run))
    text = to_markdown(title, sections)
    folder.save_text(text, "questionnaire.md")
    folder.save_text(to_latex(sections), "questionnaire.tex")
    opening = opening_code(folder.path, folder.path)
    codes = {"7.": f"{opening}figure = run.plot()\nfigure", "10": f"{opening}run.table()"}
    with_code = [replace(s, code=codes.get(s.title[:2], "")) for s in sections]
    print(text)
    print(f"written: {folder.path}/questionnaire.md and .tex")
    folder.save_text(executed(to_notebook(title, with_code), folder.path), "questionnaire.ipynb")
    print(f"written: {folder.path}/questionnaire.ipynb")
