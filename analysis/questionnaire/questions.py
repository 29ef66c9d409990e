"""Friedland's ten questions about a machine-learning experiment, answered from a run of capacity_curve.

Reference: the measurement form of Friedland's course on experimental design for machine learning, as filled
in by the report this package grew out of.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from analysis.lab.reporting.documents import Section
from analysis.lab.runs.loading import Run
from analysis.lab.runs.progress import OnProgress, silent
from analysis.questionnaire.context import Experiment, title
from analysis.questionnaire.data_questions import annotation, data, inference, need, variable
from analysis.questionnaire.model_questions import combining, curve, memorizing, prediction, repeating

if TYPE_CHECKING:
    from analysis.questionnaire.config import Config

QUESTIONS: tuple[Callable[[Experiment], Section], ...] = (
    variable, data, annotation, inference, need, memorizing, curve, prediction, combining, repeating,
)  # fmt: skip


def answers(run: Run, config: "Config", on_progress: OnProgress = silent) -> Iterator[Section]:
    """The ten sections, in order; each is measured when it is asked for."""
    experiment = Experiment(run, config)
    for question in QUESTIONS:
        on_progress(doing=title(question))
        yield question(experiment)
        on_progress(1)
