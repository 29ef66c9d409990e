"""The smallest adequate size of each data set, and what an error of size costs."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from capacity.pilots import UNITS

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


def adequate(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A row per data set: its facts, the width that errs least, and the smallest within one standard error.

    Means are over seeds, on validation rows; the standard error is that of the best width's mean (Breiman,
    Friedman, Olshen and Stone 1984). `stored` is the smallest width of which every seed's network had at some
    step no training row wrong, NaN where none had.
    """
    import pandas as pd

    sizes = []
    for name, rows in frame.groupby("dataset", sort=False):
        by_width = rows.groupby("width")
        means = by_width["validation_error"].mean()
        best = list(means.index)[int(means.argmin())]
        seeds = rows["seed"].nunique()
        spread = float(by_width["validation_error"].std(ddof=1)[best]) / seeds**0.5 if seeds > 1 else 0.0
        fits = means[means <= means[best] + spread]
        worst = by_width["training_error"].max()
        facts = rows.iloc[0].drop(["width", "seed", "validation_error", "test_error", "training_error"])
        sizes.append(
            facts.to_dict()
            | {"dataset": name, "best": int(best), "adequate": int(fits.index.min()),
               "standard_error": spread, "stored": float(worst[worst == 0].index.min()),
               "pilot_gap": pilot_gap(means)}
        )  # fmt: skip
    return pd.DataFrame(sizes)


def pilot_gap(means: "pd.Series") -> float:
    """By how much the larger of two small widths errs less, of those that are nearest to the pilot's."""
    widths = means.index.to_numpy(dtype=float)
    small, large = (means.iloc[int(np.abs(np.log2(widths / wanted)).argmin())] for wanted in UNITS)
    return float(small - large)


def nearest(octaves: Array, widths: Array) -> Array:
    """The widths of the grid that are nearest to sizes given as log2(units)."""
    return np.asarray(widths[np.abs(np.log2(widths)[None, :] - octaves[:, None]).argmin(axis=1)])


def regrets(frame: "pd.DataFrame", sets: "pd.DataFrame", octaves: Array) -> Array:
    """For each data set, test error at the foretold width minus that at the width best on validation."""
    errors = frame.groupby(["dataset", "width"])["test_error"].mean()
    widths = nearest(octaves, np.sort(frame["width"].unique()).astype(float))
    pairs = zip(sets["dataset"], widths, sets["best"], strict=True)
    return np.array([errors[name, int(width)] - errors[name, best] for name, width, best in pairs])
