"""The four rules of memory-equivalent capacity (MEC), as functions from integers to bits.

1. A perceptron's output carries at most 1 bit.
2. A perceptron stores at most as many bits as it has parameters, bias included.
3. Perceptrons side by side add.
4. A layer fed by another stores at most the bits that come out of that other layer.

Published code disagrees on rule 4, so its reading is an argument, `convention`:

========== ============================================================= =========================
name       a layer is capped by                                          used by
========== ============================================================= =========================
previous   the bits entering the layer itself                            Friedland et al. 2018
running    the least bits on any way to it (data-processing inequality)  TFMeter
uncapped   nothing: the sum of the parameters                            Brainome predictors
========== ============================================================= =========================

Reference: Friedland, Metere and Krell 2018, "A Practical Approach to Sizing Neural Networks",
arXiv:1810.02328.
"""

import itertools
from collections.abc import Sequence
from math import floor, log2
from typing import Literal, get_args

from capacity import checks
from capacity.errors import InputError

Convention = Literal["previous", "running", "uncapped"]
CONVENTIONS: tuple[str, ...] = get_args(Convention)


def check_convention(convention: str) -> None:
    """Raise InputError unless `convention` is one of CONVENTIONS."""
    checks.word(*CONVENTIONS)("convention", convention)


def dense_parameters(inputs: int, units: int) -> int:
    """Parameters of a dense layer, bias included: (inputs + 1) · units.

    >>> dense_parameters(25088, 4096)
    102764544
    """
    return (inputs + 1) * units


def stored_bits(parameters: int, input_bits: int | None) -> int:
    """Rules 2 and 4: bits a layer stores; `input_bits` is None where nothing caps it.

    >>> stored_bits(1_000, 64), stored_bits(1_000, None)
    (64, 1000)
    """
    return parameters if input_bits is None else min(parameters, input_bits)


def input_cap(convention: str, *, raw: bool, entering_bits: int, passed_bits: Sequence[int]) -> int | None:
    """The cap of rule 4 on one layer, in bits; None where it sees raw data or the convention has no cap.

    Parameters
    ----------
    raw: whether data that passed through no counted layer reaches the layer
    entering_bits: elements per sample of its input that descend from counted layers
    passed_bits: for each layer that feeds it, the bits that one can pass on (see `passes_on`)
    """
    if convention == "uncapped" or raw:
        return None
    if convention == "running":
        return min(entering_bits, sum(passed_bits))
    return entering_bits


def passes_on(output_bits: int, input_bits: int | None) -> int:
    """Bits a layer can pass on: what it emits, but never more than enters it (data processing)."""
    return output_bits if input_bits is None else min(output_bits, input_bits)


@checks.arguments(inputs=checks.integer, units=checks.each(checks.integer))
def dense_capacity(inputs: int, units: Sequence[int], *, convention: Convention = "previous") -> int:
    """Capacity in bits of a stack of dense layers with biases.

    Parameters
    ----------
    inputs: features of one sample
    units: units of each layer, first to last
    convention: how rule 4 is read, one of CONVENTIONS

    Raises InputError for sizes that are not positive integers and for an unknown convention.

    Reference: Friedland, Metere and Krell 2018.

    >>> dense_capacity(2, [2, 1])
    8
    >>> dense_capacity(25088, [4096, 4096, 256, 10])
    102772992
    """
    check_convention(convention)
    sizes = [inputs, *units]
    if len(sizes) < 2 or min(sizes) < 1:
        raise InputError(f"inputs and units must be positive integers, one layer at least, found {sizes}")
    total, cap = 0, None
    for before, after in itertools.pairwise(sizes):
        total += stored_bits(dense_parameters(before, after), cap)
        passed = passes_on(after, cap)
        cap = input_cap(convention, raw=False, entering_bits=after, passed_bits=[passed])
    return total


@checks.arguments(capacity_bits=checks.integer, classes=checks.integer)
def memorizable_rows(capacity_bits: int, classes: int) -> int:
    """Rows with one of `classes` labels that a capacity can hold: floor(C / log2 k).

    >>> memorizable_rows(18, 4)
    9
    """
    if classes < 2 or capacity_bits < 0:
        raise InputError(
            f"classes must be at least 2 and capacity_bits not negative, found {classes} and {capacity_bits}"
        )
    return floor(capacity_bits / log2(classes))
