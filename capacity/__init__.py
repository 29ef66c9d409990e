"""How many bits can a network hold, and how well are they used?"""

from capacity.errors import InputError
from capacity.generalization import Generalization, generalization, label_entropy, wilson_interval
from capacity.layers import RULES
from capacity.measuring import measure
from capacity.memorization import Memorization, cover_fraction, memorization, separable
from capacity.report import CapacityReport, LayerCapacity
from capacity.requirement import Recommendation, Requirement, recommend, requirement
from capacity.rules import CONVENTIONS, dense_capacity, memorizable_rows

__version__ = "0.1.0"

__all__ = [
    "CONVENTIONS",
    "RULES",
    "CapacityReport",
    "Generalization",
    "InputError",
    "LayerCapacity",
    "Memorization",
    "Recommendation",
    "Requirement",
    "cover_fraction",
    "dense_capacity",
    "generalization",
    "label_entropy",
    "measure",
    "memorizable_rows",
    "memorization",
    "recommend",
    "requirement",
    "separable",
    "wilson_interval",
]
