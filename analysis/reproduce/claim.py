"""A published figure or sentence beside what was recomputed, and the five reports' names."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.lab.measurement.verdict import Judgement, Verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Claim:
    """One published figure beside the one recomputed, and the judgement that a measurement gave.

    source: where it is published, in the report's text or its public code; figures: how many it holds
    """

    report: str
    item: str
    published: str
    recomputed: str
    judgement: Judgement
    why: str = ""
    command: str = "python -m analysis.reproduce"
    source: str = ""
    figures: int = 1

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict


def published(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Lines that judge something published; what holds no figure is a remark."""
    return frame[frame["figures"].astype(int) > 0]


REPORTS = {
    "A": "Deep Compression and Capacity Estimation of VGG16 (2019)",
    "B": "VGG16 compression technical report (2023)",
    "C": "Cinnamon week 5 homework: GoogLeNet (2023)",
    "D": "Compressing Neural Nets (IIIT Dharwad)",
    "E": "Benchmarking of DNN compression techniques (UMass)",
}
