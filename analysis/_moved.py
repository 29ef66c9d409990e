"""Modules under their names of version 0.1, for one release: importing one warns and gives today's."""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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


class _Moved(MetaPathFinder, Loader):
    def __init__(self) -> None:
        self.specs: dict[int, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        today = MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {today}", DeprecationWarning, stacklevel=2)
        module = import_module(today)
        self.specs[id(module)] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.specs.pop(id(module))


sys.meta_path.append(_Moved())
