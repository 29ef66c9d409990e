"""What two numbers with intervals allow to be said: the one place where a verdict is made.

A difference is judged by its 95 % interval, the one that is printed beside it, so that a reader can check
each verdict from the table. Equivalence is shown by two one-sided tests, here each at 2.5 %: the whole
interval lies within the margin.

Reference: Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15, 657-680.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

MARGIN = 0.005  # of an error as a fraction: half a point


class Verdict(StrEnum):
    """The words; what is better or worse is the measured number, beside the one it is compared with."""

    EXACT = "exact"
    EQUIVALENT = "equivalent"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "cannot be told apart"
    DIFFERENT = "not reproduced"
    WRONG = "wrong as printed"
    NOT_RUN = "not run"
    ONE_SEED = "one seed: no verdict"
    QUICK_PASS = "quick pass: no verdict"


@dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its 95 % interval: NaN for one value, 0 for a number that is given."""

    mean: float
    half_width: float = math.nan


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.

    difference: measured minus reference, negated where more is better, so that above zero is worse
    margin: within which the two count as equivalent; reason: what the verdict says beyond its word
    """

    verdict: Verdict
    difference: Estimate = Estimate(math.nan)
    margin: float = math.nan
    reason: str = ""

    @property
    def not_worse(self) -> bool:
        """Whether the interval excludes that it is worse by more than the margin."""
        if self.verdict in (Verdict.ONE_SEED, Verdict.QUICK_PASS):
            return False
        return self.difference.mean + self.difference.half_width <= self.margin

    def __str__(self) -> str:
        return str(self.verdict)


def compare(
    measured: Estimate,
    reference: Estimate,
    *,
    margin: float = MARGIN,
    lower_is_better: bool = True,
    quick: bool = False,
) -> Judgement:
    """Judge a measured number beside another; independent intervals are added in squares.

    margin: in the numbers' unit; with 0 nothing is equivalent; quick: of a quick pass, which gives no verdict

    >>> str(compare(Estimate(0.031, 0.002), Estimate(0.030, 0.0)))
    'equivalent'
    >>> str(compare(Estimate(0.05, 0.01), Estimate(0.03, 0.0)))
    'worse'
    >>> str(compare(Estimate(0.03, 0.02), Estimate(0.03, 0.0)))
    'cannot be told apart'
    """
    sign = 1 if lower_is_better else -1
    gap = sign * (measured.mean - reference.mean)
    half = math.hypot(measured.half_width, reference.half_width)
    return Judgement(_word(gap, half, margin, quick), Estimate(gap, half), margin)


def difference(gap: Estimate, *, margin: float = MARGIN, quick: bool = False) -> Judgement:
    """Judge a paired difference, of which less is better, beside zero.

    >>> str(difference(Estimate(-0.02, 0.01)))
    'better'
    """
    return compare(gap, Estimate(0.0, 0.0), margin=margin, quick=quick)


def _word(gap: float, half: float, margin: float, quick: bool) -> Verdict:
    if quick:
        return Verdict.QUICK_PASS
    if gap == 0 and not half > 0:
        return Verdict.EXACT
    if math.isnan(gap) or math.isnan(half):
        return Verdict.ONE_SEED
    if abs(gap) + half < margin:
        return Verdict.EQUIVALENT
    if abs(gap) > half:
        return Verdict.WORSE if gap > 0 else Verdict.BETTER
    return Verdict.UNDECIDED


def matches(value: float, printed: str) -> bool:
    """Whether a value is the printed one to its last digit.

    >>> matches(527.79, "528"), matches(233.08, "240"), matches(102_772_992, "102,772,992")
    (True, False, True)
    """
    digits = len(printed.partition(".")[2])
    return f"{value:.{digits}f}" == printed.replace(",", "")


def exact(*agree: bool) -> Judgement:
    """Exact where every printed digit agrees; else not reproduced."""
    return Judgement(Verdict.EXACT if agree and all(agree) else Verdict.DIFFERENT)


def demonstration(*, printed: bool, corrected: bool) -> Judgement:
    """Wrong as printed where a test fails on the printed form and passes on the corrected one.

    >>> str(demonstration(printed=False, corrected=True)), str(demonstration(printed=True, corrected=True))
    ('wrong as printed', 'exact')
    """
    if printed:
        return Judgement(Verdict.EXACT)
    return Judgement(Verdict.WRONG if corrected else Verdict.DIFFERENT)


def not_run(cost: str) -> Judgement:
    """No measurement; the cost of one is the reason."""
    return Judgement(Verdict.NOT_RUN, reason=cost)


def together(*judgements: Judgement) -> Judgement:
    """One judgement of several counts: better only where all are, worse where one is."""
    words = [judgement.verdict for judgement in judgements]
    for word in (Verdict.QUICK_PASS, Verdict.ONE_SEED, Verdict.WORSE):
        if word in words:
            return Judgement(word)
    return Judgement(words[0] if len(set(words)) == 1 else Verdict.UNDECIDED)
