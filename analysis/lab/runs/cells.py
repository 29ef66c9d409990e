"""Words in CSV files that a spreadsheet would compute: written behind an apostrophe, read without it."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMULA = re.compile(r"[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]( ?[\d.,]+[^=+\-@|!(){}&\"*/^<>:']*)?")  # a number with its unit, or a dash


def as_words(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The frame as it is written: no cell, and no heading, that a spreadsheet takes for a formula.

    >>> import pandas as pd
    >>> as_words(pd.DataFrame({"name": ["=1+1", "-", "+0.3 ± 0.1 points", "mlp"]}))["name"].tolist()
    ["'=1+1", '-', '+0.3 ± 0.1 points', 'mlp']
    """

    def quoted(word: str) -> str:
        return f"'{word}" if FORMULA.match(word) and not NUMBER.fullmatch(word) else word

    return _changed(frame, quoted)


def as_read(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The frame that was written.

    >>> import pandas as pd
    >>> as_read(pd.DataFrame({"name": ["'=1+1", "'tis"]}))["name"].tolist()
    ['=1+1', "'tis"]
    """
    return _changed(frame, lambda word: word[1:] if word[:1] == "'" and FORMULA.match(word[1:]) else word)


def _changed(frame: "pd.DataFrame", change: Any) -> "pd.DataFrame":
    def cell(value: Any) -> Any:
        return change(value) if isinstance(value, str) else value

    words = frame.select_dtypes(exclude=["number", "bool"]).columns
    changed = frame.assign(**{str(name): frame[name].map(cell) for name in words}) if len(words) else frame
    return changed.rename(columns=cell)
