"""A published figure or sentence beside what was recomputed, and the five reports' names."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["exact", "within interval", "not reproduced", "wrong", "needs its preset"]


@dataclass(frozen=True)
class Claim:
    """One published figure beside the one recomputed, and what to think of it."""

    report: str
    item: str
    published: str
    recomputed: str
    verdict: Verdict
    why: str = ""
    command: str = "python -m analysis.reproduce"


REPORTS = {
    "A": "Deep Compression and Capacity Estimation of VGG16 (2019)",
    "B": "VGG16 compression technical report (2023)",
    "C": "Cinnamon week 5 homework: GoogLeNet (2023)",
    "D": "Compressing Neural Nets (IIIT Dharwad)",
    "E": "Benchmarking of DNN compression techniques (UMass)",
}
