"""How much to prune: an int says how many, a float which fraction, a dict either for each layer."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from capacity.errors import InputError, brief

Amount = int | float | Mapping[str, int | float]


def plain_amount(amount: Any) -> int | float:
    """A count or a fraction as Python's own number, whatever numeric type it came in.

    Raises InputError for a count below 1 and for a fraction that is not between 0 and 1.

    >>> plain_amount(np.int64(80)), plain_amount(np.float64(0.5))
    (80, 0.5)
    """
    if isinstance(amount, numbers.Integral) and not isinstance(amount, bool) and int(amount) >= 1:
        return int(amount)
    if isinstance(amount, numbers.Real) and 0 < float(amount) < 1:
        return float(amount)
    raise InputError(
        f"amount must be an int of at least 1 (how many) or a float between 0 and 1 (which fraction), "
        f"found {brief(amount)}{_hint(amount)}"
    )


def _hint(amount: Any) -> str:
    """What may have been meant."""
    if isinstance(amount, bool | np.bool_):
        return "; a truth value is no count"
    if not isinstance(amount, numbers.Real) or not 1 <= float(amount) < 1e15:
        return ""
    value = float(amount)
    hints = [f"for {int(value)} of them pass the int {int(value)}"] if value.is_integer() else []
    hints += [f"for {value:g} % pass {value / 100:g}"] if 1 < value < 100 else []
    hints += ["all of them cannot go"] if value == 1 else []
    return "".join(f"; {hint}" for hint in hints)


def plain_amounts(amount: Any) -> Amount:
    """An amount, or one for each layer, as Python's own numbers."""
    if isinstance(amount, Mapping):
        return {name: plain_amount(value) for name, value in amount.items()}
    return plain_amount(amount)


def shown(amount: Amount) -> str:
    """An amount as text; of amounts per layer, how many layers they are for."""
    return f"per layer ({len(amount)})" if isinstance(amount, Mapping) else f"{amount:g}"


def number_of(
    amount: int | float, alive: Sequence[int], room: Sequence[int], *, what: str, keep: int
) -> tuple[int, int]:
    """How many units to prune of a group of layers, and how many were asked for.

    alive, room: units of each layer, and how many of them may go
    what: the layers and their units in words, "layer '0' has|weights"
    keep: how many every layer keeps

    A fraction of one layer takes what room there is, and so does any amount of several together that leaves
    something. Raises InputError for what does not fit, and rather than prune what scores infinity.
    """
    where, _, units = what.partition("|")
    total, free = sum(alive), sum(room)
    asked = amount if isinstance(amount, int) else round(amount * total)
    several, infinite = len(alive) > 1, free < sum(max(0, count - keep) for count in alive)
    fits = asked <= free if infinite or not several else asked < total
    if not asked or fits or (isinstance(amount, float) and not several and not infinite):
        return min(asked, free), asked
    least = f"at least {keep if keep > 1 and not several else 'one'} must stay"
    if infinite:
        least = f"{free:,} of them may go, the scores of others being infinite"
    count = f" ({amount} is a count; the fraction would be {amount / 100:g})" if 1 < amount < 100 else ""
    raise InputError(f"cannot prune {asked:,} {units}: {where} {total:,} left, and {least}{count}")
