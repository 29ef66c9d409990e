"""Modules under their names of version 0.1, for one release: importing one warns and gives today's."""

import sys

from compression._moved import MovedModules

MOVED = {
    "analysis.figures": "analysis.lab.reporting.figures",
    "analysis.lab.article": "analysis.reproduce.article",
    "analysis.lab.bench": "analysis.lab.runner",
    "analysis.lab.cifar": "analysis.lab.models.cifar",
    "analysis.lab.claims": "analysis.reproduce.exact",
    "analysis.lab.commands": "analysis.lab.cli",
    "analysis.lab.comparing": "analysis.lab.measurement.ranking",
    "analysis.lab.contenders": "analysis.comparison.techniques",
    "analysis.lab.cuts": "analysis.pruning_curve.trials",
    "analysis.lab.datasets": "analysis.lab.data.datasets",
    "analysis.lab.documents": "analysis.lab.reporting.documents",
    "analysis.lab.evidence": "analysis.questionnaire.context",
    "analysis.lab.faults": "analysis.reproduce.faults",
    "analysis.lab.features": "analysis.lab.data.features",
    "analysis.lab.finished": "analysis.lab.runs.loading",
    "analysis.lab.frontiers": "analysis.compression_frontier.trials",
    "analysis.lab.lessons": "analysis.distillation_table.trials",
    "analysis.lab.metrics": "analysis.lab.measurement.deployment",
    "analysis.lab.probing": "analysis.lab.measurement.robustness",
    "analysis.lab.progress": "analysis.lab.runs.progress",
    "analysis.lab.published": "analysis.lab.literature",
    "analysis.lab.publishing": "analysis.lab.experiment",
    "analysis.lab.questions": "analysis.questionnaire.questions",
    "analysis.lab.questions_data": "analysis.questionnaire.data_questions",
    "analysis.lab.questions_training": "analysis.questionnaire.model_questions",
    "analysis.lab.races": "analysis.speed.grid",
    "analysis.lab.records": "analysis.lab.runs.directory",
    "analysis.lab.roundings": "analysis.quantization_table.trials",
    "analysis.lab.standins": "analysis.reproduce.surrogates",
    "analysis.lab.statistics": "analysis.lab.measurement.statistics",
    "analysis.lab.students": "analysis.lab.models.students",
    "analysis.lab.sweeps": "analysis.lab.runs.grid",
    "analysis.lab.trials": "analysis.capacity_curve.trials",
    "analysis.tables": "analysis.lab.reporting.latex",
}

sys.meta_path.append(MovedModules(MOVED))
