"""How many bits can a network hold, and how well are they used?

A network
    measure             capacity of a model, layer by layer: a CapacityReport
    bounds              bits of labels that are proven to be too many, beside the capacity
    dense_capacity      of dense layers, from their sizes alone
    RULES, LayerRule    what counts as a layer, and its parameters
    CONVENTIONS         what caps the bits that reach a layer
    memorizable_rows    rows with random labels that so many bits can hold
    memorization        random labels really memorized, beside the capacity
    separable           whether one perceptron can tell two classes apart
    cover_fraction      share of the labelings that a perceptron can learn, by Cover's formula

Data, and whether a network generalizes
    requirement         bits that features and labels need
    pilot               two small networks trained first: what the larger gains
    recommend           a size to start from, its range, and how far such advice was off
    generalization      correct predictions in bits, over the capacity
    label_entropy       bits in a label
    wilson_interval     interval of an accuracy
    mean_half_width     half the interval of a mean
    certificate         the error on new data that a small file guarantees
    two_part_length     bits that tell the labels with a network's file: which share of them is learned

InputError is what bad input raises, and what it says is what would work.
"""

from typing import TYPE_CHECKING

import capacity._old_modules
import capacity._startup  # noqa: F401  first: on Python 3.14 torch already needs what it puts right
from capacity.errors import InputError

if TYPE_CHECKING:
    from capacity._generalization import (
        Generalization,
        generalization,
        label_entropy,
        mean_half_width,
        wilson_interval,
    )
    from capacity._memorization import (
        Memorization,
        MemorizationPoint,
        cover_fraction,
        memorization,
        separable,
    )
    from capacity._requirement import Requirement, requirement
    from capacity.certificates import Certificate, certificate
    from capacity.descriptions import DescriptionLength, two_part_length
    from capacity.layers import RULES, LayerRule
    from capacity.measuring import measure
    from capacity.pilots import Pilot, pilot
    from capacity.proven import Bounds, bounds
    from capacity.recommendation import Recommendation, recommend
    from capacity.report import CapacityReport, LayerCapacity
    from capacity.rules import CONVENTIONS, dense_capacity, memorizable_rows

__version__ = "0.2.0"

__all__ = [
    "CONVENTIONS",
    "RULES",
    "Bounds",
    "CapacityReport",
    "Certificate",
    "DescriptionLength",
    "Generalization",
    "InputError",
    "LayerCapacity",
    "LayerRule",
    "Memorization",
    "MemorizationPoint",
    "Pilot",
    "Recommendation",
    "Requirement",
    "bounds",
    "certificate",
    "cover_fraction",
    "dense_capacity",
    "generalization",
    "label_entropy",
    "mean_half_width",
    "measure",
    "memorizable_rows",
    "memorization",
    "pilot",
    "recommend",
    "requirement",
    "separable",
    "two_part_length",
    "wilson_interval",
]

_NAMES = {
    "_generalization": "Generalization generalization label_entropy mean_half_width wilson_interval",
    "_memorization": "Memorization MemorizationPoint cover_fraction memorization separable",
    "_requirement": "Requirement requirement",
    "certificates": "Certificate certificate",
    "descriptions": "DescriptionLength two_part_length",
    "layers": "RULES LayerRule",
    "measuring": "measure",
    "pilots": "Pilot pilot",
    "proven": "Bounds bounds",
    "recommendation": "Recommendation recommend",
    "report": "CapacityReport LayerCapacity",
    "rules": "CONVENTIONS dense_capacity memorizable_rows",
}

if not TYPE_CHECKING:  # checkers know the names from the imports above, and report any other
    _HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

    def __getattr__(name: str) -> object:
        """Load one of the names above, so that `import capacity` itself loads no torch."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return globals().setdefault(name, getattr(import_module(f"{__name__}.{_HOMES[name]}"), name))

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
