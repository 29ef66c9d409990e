"""A published figure or sentence beside what was recomputed, and the five reports' names."""

from dataclasses import dataclass

from analysis.lab.measurement.verdict import Judgement, Verdict


@dataclass(frozen=True)
class Claim:
    """One published figure beside the one recomputed, and the judgement that a measurement gave."""

    report: str
    item: str
    published: str
    recomputed: str
    judgement: Judgement
    why: str = ""
    command: str = "python -m analysis.reproduce"

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict


REPORTS = {
    "A": "Deep Compression and Capacity Estimation of VGG16 (2019)",
    "B": "VGG16 compression technical report (2023)",
    "C": "Cinnamon week 5 homework: GoogLeNet (2023)",
    "D": "Compressing Neural Nets (IIIT Dharwad)",
    "E": "Benchmarking of DNN compression techniques (UMass)",
}
