"""Friedland's ten questions about an experiment, answered by measurement from a run of capacity_curve."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from analysis.lab.commands import at_least_one, execute
from capacity.errors import InputError


@dataclass(frozen=True)
class Config:
    """Write RUN/questionnaire.md, .tex and .ipynb: ten answers with numbers, tables and the run's figure."""

    run: tyro.conf.Positional[str] = ""
    """A run folder of capacity_curve."""
    data: str = ""
    """Folder where torchvision's data sets lie, if it is not the one that the run used."""
    strengths: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    """Disturbances of pictures scaled to [0, 1]: deviation of noise, largest change by the attack."""
    memorize_rows: int = 2_000
    """Most pictures to memorize under random labels."""
    memorize_epochs: int = 200
    """Epochs of that memorizing."""
    smoke: bool = False
    """One strength, few rows and epochs."""


def start(config: Config) -> None:
    """Answer, print the Markdown, and write all three forms into the run folder."""
    from analysis.lab.documents import to_latex, to_markdown, to_notebook
    from analysis.lab.finished import finished, opening_code
    from analysis.lab.progress import progress
    from analysis.lab.questions import QUESTIONS, answers
    from analysis.lab.records import RunFolder

    at_least_one(config, "memorize_rows", "memorize_epochs")
    if not config.run:
        raise InputError("name a run folder: python -m analysis.questionnaire runs/NAME")
    if not config.strengths or min(config.strengths) <= 0:
        raise InputError(f"strengths must be positive, found {list(config.strengths)}")
    if config.smoke:
        config = replace(config, strengths=config.strengths[:1], memorize_rows=64, memorize_epochs=2)
    run = finished(config.run)
    with progress(len(QUESTIONS), "questions") as advance:
        sections = list(answers(run, config, advance))
    title = f"Ten questions about {run.config.model} on {run.config.dataset}"
    folder = RunFolder(Path(config.run))
    text = to_markdown(title, sections)
    folder.save_text(text, "questionnaire.md")
    folder.save_text(to_latex(sections), "questionnaire.tex")
    opening = opening_code(folder.path)
    codes = {"7.": f"{opening}figure = run.plot()\nfigure", "10": f"{opening}run.summary()"}
    with_code = [replace(s, code=codes.get(s.title[:2], "")) for s in sections]
    print(text)
    print(f"written: {folder.path}/questionnaire.md and .tex")
    folder.save_text(to_notebook(title, with_code), "questionnaire.ipynb")
    print(f"written: {folder.path}/questionnaire.ipynb")


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
