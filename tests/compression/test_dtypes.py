"""A model in double precision says what the same model says in single precision."""

from math import isclose
from typing import Any

import pytest
from kinds import build
from outcomes import numbers
from torch import nn
from uses import FUNCTIONS, SLOW

from capacity import InputError

pytestmark = pytest.mark.filterwarnings("ignore")

KINDS = ("dense", "conv2d", "batch norm", "masked", "weight norm", "LSTM", "attention", "tied")
BY_TYPE = ("bytes", "storage", "bits", "dtype", "ratio")  # what a type decides itself
OF_A_MACHINE = ("latency", "recipe")
NOT_THE_SAME = {
    "peak_memory_bytes": "is told in bytes",
    "fingerprint": "is that of the bits",
    "certify and description_length": "count the bits of a file",
}


def told(function: str, model: nn.Module) -> dict[str, float] | str:
    """The numbers of a result, or that the function refuses."""
    try:
        result: Any = FUNCTIONS[function](model)
    except InputError:
        return "refused"
    if function == "encode and decode":
        result = result[1]  # the first is the size of the file
    return {place: value for place, value in numbers(result) if not any(word in place for word in BY_TYPE)}


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f not in {*OF_A_MACHINE, *NOT_THE_SAME}])
def test_double_precision_says_what_single_precision_says(function: str) -> None:
    lines = []
    for kind in KINDS:
        if kind not in SLOW.get(function, KINDS):
            continue
        one, two = told(function, build(kind)), told(function, build(kind).double())
        if isinstance(one, str) or isinstance(two, str) or one.keys() != two.keys():
            if one != two:
                lines.append(f"{kind}: {str(one)[:100]} in single precision, {str(two)[:100]} in double")
            continue
        assert one, "nothing was compared"
        apart = [p for p in one if not isclose(one[p], two[p], rel_tol=1e-2, abs_tol=2e-3)]
        lines += [f"{kind}: {p} is {one[p]:g} in single precision, {two[p]:g} in double" for p in apart[:2]]
    assert not lines, "\n".join(lines)
