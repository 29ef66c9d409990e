"""Sums of the rows of a table, and which of them are equal: whatever the unit, column order or number type.

In floating point equal sums differ in their last bits: 5.1 + 3.5 + 1.4 is not 1.4 + 3.5 + 5.1, single
precision's 5.1 is not double precision's, and ten times 0.57 is not 5.7. So a table is read in one of two
ways:

1. All numbers are multiples of one step (counts, decimals, pictures divided by 255), as far as their own type
   can tell: the multiples are summed, exactly. The step is found by Euclid's algorithm and checked on
   every number.
2. Otherwise the numbers are summed in double precision, and sums that differ by no more than 2^-48 of what
   their rows hold in absolute terms, which the rounding of a sum explains, are equal.

A single column is not summed: its numbers are compared as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from capacity import checks
from capacity.errors import InputError, brief

CHUNK = 1 << 21  # elements worked on at a time
SAMPLE = 1 << 17  # elements in which the step is looked for
ROUNDING = 2.0**-48  # of a sum in double precision, relative to the sum of the absolute values


@dataclass(frozen=True)
class Table:
    """Numbers (rows, features), and the unit roundoff of the type they came in; 0 for integers."""

    values: np.ndarray
    roundoff: float

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Some rows at a time, in double precision."""
        rows, columns = self.values.shape
        step = max(1, CHUNK // max(1, columns))
        for start in range(0, rows, step):
            part = slice(start, min(rows, start + step))
            yield part, np.ascontiguousarray(self.values[part], dtype=np.float64)


def table_of(features: Any) -> Table:
    """A table of an array or tensor (rows, ...); everything behind the first axis is flattened.

    Raises InputError for what is no table of numbers, for NaN and for infinity.
    """
    roundoff = None
    if hasattr(features, "detach"):  # a tensor
        import torch

        checks.array("features", features)
        features = features.detach().cpu()
        if features.dtype == torch.bfloat16:
            features, roundoff = features.float(), 2.0**-8
    try:
        values = np.asarray(features)
    except (ValueError, TypeError) as error:
        raise InputError(f"features must be a table of numbers: {error}") from error
    if values.ndim < 1:
        raise InputError(f"features must be a table of numbers with a row each, found {brief(features)}")
    if values.dtype.kind not in "biuf":
        raise InputError(f"features must be numbers, found {values.dtype}; encode categories first")
    if not values.size:
        raise InputError(f"features hold no numbers: found shape {values.shape}")
    values = values.reshape(len(values), -1)
    if values.dtype.kind != "f":
        return Table(values, 0.0)
    table = Table(values, roundoff or float(max(np.finfo(values.dtype).eps, 2.0**-52)) / 2)
    for part, chunk in table.chunks():
        if not np.isfinite(chunk).all():
            row = part.start + int(np.argwhere(~np.isfinite(chunk).all(axis=1))[0, 0])
            raise InputError(f"row {row} holds NaN or infinity; drop or impute it first")
    return table


def ranks_of_sums(table: Table) -> np.ndarray:
    """The place of each row's sum among all rows' distinct sums: (rows,) integers; equal sums share one.

    >>> ranks_of_sums(table_of([[0.1, 0.7], [0.5, 0.5], [0.3, 0.5]])).tolist()
    [0, 1, 0]
    """
    if table.values.shape[1] == 1:
        exact = table.values[:, 0]
    elif table.roundoff == 0.0:
        exact = _integer_sums(table.values)
    else:
        step = find_step(table)
        if step is None:
            return _approximate_ranks(table)
        exact = np.concatenate([np.rint(chunk / step).astype(np.int64).sum(1) for _, chunk in table.chunks()])
    return np.unique(exact, return_inverse=True)[1].reshape(-1)


def _integer_sums(values: np.ndarray) -> np.ndarray:
    largest = max(abs(int(values.max())), abs(int(values.min())))
    wide = largest * values.shape[1] >= 2**63
    return np.asarray(values.sum(axis=1, dtype=object if wide else np.int64))


def find_step(table: Table) -> float | None:
    """The largest number of which all in a table of floats are multiples as far as their type can tell.

    None where the multiples would be too large to be told from numbers of no step at all.

    >>> find_step(table_of(np.float32([[0.2, 0.5], [0.4, 0.3]])))
    0.10000000149011612
    """
    rows, columns = table.values.shape
    every = max(1, rows * columns // SAMPLE)
    sample = np.abs(table.values[::every].astype(np.float64)).ravel()
    for _ in range(8):
        step = _common_step(np.unique(sample[sample > 0]), table.roundoff)
        if step is None:
            return None
        odd = next(
            (odd_ones for _, chunk in table.chunks() if (odd_ones := _no_multiples(chunk, step, table)).size),
            None,
        )
        if odd is None:
            return step
        sample = np.concatenate([sample[sample > 0][:1000], np.abs(odd[:1000]), [step]])
    return None


def _no_multiples(chunk: np.ndarray, step: float, table: Table) -> np.ndarray:
    multiples = chunk / step
    apart = np.abs(multiples - np.rint(multiples))
    np.abs(multiples, out=multiples)
    wrong = apart > _rounding_error(multiples, table.roundoff)
    wrong |= multiples > _largest_multiple(table.roundoff)
    return chunk[wrong]


def _rounding_error(multiples: np.ndarray, roundoff: float) -> np.ndarray:
    """How far from a whole number rounding may have moved a multiple of a rounded step.

    Both were rounded, perhaps twice, where a unit was changed, and their quotient is once more.
    """
    return 6 * roundoff * multiples


def _largest_multiple(roundoff: float) -> float:
    return 1 / (16 * roundoff)


def _common_step(values: np.ndarray, roundoff: float) -> float | None:
    """Euclid's algorithm on ascending positive numbers: the remainders' smallest is the next step."""
    if not values.size:
        return 1.0
    step = float(values[0])
    while values[-1] / step <= _largest_multiple(roundoff):
        step = float(values[0] / np.rint(values[0] / step))  # as exact as the smallest number is
        multiples = values / step
        apart = np.abs(multiples - np.rint(multiples))
        odd = apart > _rounding_error(multiples, roundoff)
        if not odd.any():
            return step
        step *= float(apart[odd].min())
    return None


def _approximate_ranks(table: Table) -> np.ndarray:
    sums, sizes = np.empty(len(table.values)), np.empty(len(table.values))
    for part, chunk in table.chunks():
        sums[part], sizes[part] = chunk.sum(axis=1), np.abs(chunk).sum(axis=1)
    order = np.argsort(sums, kind="stable")
    gaps, unsure = np.diff(sums[order]), ROUNDING * sizes[order]
    ranks = np.empty(len(sums), dtype=np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(gaps > unsure[1:] + unsure[:-1])])
    return ranks
