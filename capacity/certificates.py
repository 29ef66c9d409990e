"""The error on new data that a network guarantees by being small: Occam's razor with the bits of its file.

A code that was fixed before the data were seen gives at most 2^-bits of its probability to one file. With
probability `confidence` over the draw of n training samples, no file of that code errs on new data more
often than the bound, whatever was searched to find it.

Reference: Langford 2005, "Tutorial on Practical Prediction Theory for Classification", JMLR 6, theorems 3.3
and 4.6; Lotfi et al. 2022, arXiv:2211.13609, for such bounds of neural networks.
"""

import math
from dataclasses import dataclass

from capacity import checks
from capacity.columns import percent
from capacity.errors import InputError
from capacity.inputs import as_integer

SURE = 36.0  # log-odds of a rate next to one in double precision


@dataclass(frozen=True)
class Certificate:
    """The top-1 error, as a fraction, that new samples of the same distribution do not exceed.

    error_bound: by the exact binomial tail; kl_error_bound: by its bound with the KL divergence, never lower
    errors, total: wrong among the training samples; file_bytes, code_bits: of the file, and of all that was
    chosen: the file, its length, and one of `choices` alternatives; confidence: over the training samples
    """

    error_bound: float
    kl_error_bound: float
    errors: int
    total: int
    file_bytes: int
    choices: int
    code_bits: float
    confidence: float

    @property
    def training_error(self) -> float:
        return self.errors / self.total

    @property
    def is_vacuous(self) -> bool:
        """Whether nothing is guaranteed: the bound is one, to a part in a million."""
        return self.error_bound > 1 - 1e-6

    def __str__(self) -> str:
        return (
            f"at most {percent(self.error_bound, 2)} top-1 error on new data, with confidence "
            f"{self.confidence:g}: "
            f"{self.file_bytes:,} bytes ({self.code_bits:,.0f} bits with the length and one of "
            f"{self.choices:,} choices), {percent(self.training_error, 2)} of {self.total:,} training "
            f"samples wrong. "
            "It holds if samples are drawn independently from one distribution, and code and architecture "
            "were fixed before the training samples were seen"
        )


@checks.arguments(confidence=checks.number)
def certificate(
    errors: int, total: int, file_bytes: int, *, choices: int = 1, confidence: float = 0.95
) -> Certificate:
    """Bound the error on new data from the errors on the training samples and the bytes of the file.

    errors, total: wrong and all of the samples that training, or any choice, has seen
    file_bytes: as `compression.encode` wrote them, by a decoder that was there before the data
    choices: alternatives among which the training samples decided: architectures, settings, seeds
    confidence: probability over the draw of the training samples that the bound holds

    The file costs its bits, its length 2 floor(log2 bytes) + 1 bits more (Elias' gamma code), a choice
    log2(choices). Raises InputError for counts that cannot be.

    >>> bound = certificate(errors=1_200, total=60_000, file_bytes=400)
    >>> round(bound.error_bound, 3), round(bound.kl_error_bound, 3)
    (0.084, 0.084)
    """
    total = as_integer("total", total)
    errors = as_integer("errors", errors, least=0)
    file_bytes = as_integer("file_bytes", file_bytes)
    choices = as_integer("choices", choices)
    if errors > total:
        raise InputError(f"errors must be at most total, found {errors} of {total}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, such as 0.95, found {confidence}")
    bits = code_bits(file_bytes) + math.log2(choices)
    log_failure = math.log(1 - confidence) - bits * math.log(2)
    return Certificate(
        binomial_error_bound(errors, total, log_failure), kl_error_bound(errors / total, total, log_failure),
        errors, total, file_bytes, choices, bits, confidence,
    )  # fmt: skip


def code_bits(file_bytes: int) -> float:
    """Bits of a file in a prefix-free code: its own, and its length in Elias' gamma code.

    >>> code_bits(400)
    3217
    """
    return 8 * file_bytes + 2 * (file_bytes.bit_length() - 1) + 1


def binomial_error_bound(errors: int, total: int, log_failure: float) -> float:
    """The largest error rate at which so few errors, or fewer, still have the probability e^log_failure.

    With log_failure = ln(1 - confidence) it is the upper end of Clopper and Pearson's one-sided interval.

    >>> round(binomial_error_bound(0, 100, math.log(0.05)), 4)
    0.0295
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import gammaln, logsumexp

    if errors >= total:
        return 1.0
    counts = np.arange(errors + 1)
    log_ways = gammaln(total + 1) - gammaln(counts + 1) - gammaln(total - counts + 1)

    def excess(odds: float) -> float:
        """ln P(at most `errors` of `total`) - log_failure at the rate 1 / (1 + e^-odds)."""
        log_rate, log_rest = -math.log1p(math.exp(-odds)), -odds - math.log1p(math.exp(-odds))
        return float(logsumexp(log_ways + counts * log_rate + (total - counts) * log_rest)) - log_failure

    if excess(SURE) > 0:
        return 1.0
    odds = brentq(excess, -SURE, SURE, xtol=1e-13)
    return 1 / (1 + math.exp(-odds))


def kl_error_bound(error: float, total: int, log_failure: float) -> float:
    """The largest p with total * kl(error || p) <= -log_failure, for an error as a fraction.

    >>> round(kl_error_bound(0.0, 100, math.log(0.05)), 4)
    0.0295
    """
    from scipy.optimize import brentq

    budget = -log_failure / total

    def excess(rate: float) -> float:
        return binary_kl_nats(error, rate) - budget

    top = math.nextafter(1.0, 0.0)
    if error >= 1 or excess(top) <= 0:
        return 1.0
    return float(brentq(excess, max(error, 1e-300), top, xtol=1e-14))


def binary_kl_nats(left: float, right: float) -> float:
    """KL divergence in nats between two coins with these probabilities of heads.

    >>> binary_kl_nats(0.5, 0.5), round(binary_kl_nats(0.0, 0.5), 4)
    (0.0, 0.6931)
    """
    heads = left * math.log(left / right) if left > 0 else 0.0
    tails = (1 - left) * math.log((1 - left) / (1 - right)) if left < 1 else 0.0
    return heads + tails
