"""The advice that follows from the experiment, as `capacity.recommend` reads it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.lab.measurement.verdict import Estimate, compare
from analysis.sizing.judging import choose, fit_line, foretell, foretell_by_the_best, half_range
from analysis.sizing.predictors import FIXED, tables_of
from analysis.sizing.sizes import adequate, regrets
from capacity._generalization import mean_half_width
from capacity.recommendation import PILOT, VALUES, Advice

if TYPE_CHECKING:
    import pandas as pd

KINDS: dict[str, tuple[str, ...]] = {"data": tuple(VALUES), "pilot": tuple(PILOT)}


def advice_of(frame: "pd.DataFrame", kind: str) -> Advice:
    """The best predictor of a kind, its line through all data sets, and how far it was off on those left out.

    How far is found with the predictor chosen anew from the others, for each data set left out.
    """
    sets = adequate(frame)
    octaves = np.log2(sets["adequate"].to_numpy(dtype=float))
    tables = {
        name: values for name, values in tables_of(sets.to_dict("records")).items() if name in KINDS[kind]
    }
    foretold = foretell_by_the_best(tables, octaves)
    distances = np.abs(foretold.octaves - octaves)
    gain = _mean(np.abs(np.log2(FIXED) - octaves) - distances)
    name = choose(tables, octaves)
    line = fit_line(tables[name], octaves)
    return Advice(
        predictor=name,
        intercept=line.intercept,
        slope=line.slopes[0],
        half_range=half_range(foretell(tables[name], octaves) - octaves),
        covered=int((distances <= foretold.half_ranges).sum()),
        data_sets=len(sets),
        widths=tuple(int(width) for width in np.sort(frame["width"].unique())),
        octaves=_mean(distances),
        within_two=int((distances <= 1).sum()),
        gain=gain,
        regret=_mean(regrets(frame, sets, foretold.octaves)),
        verdict=str(compare(Estimate(*gain), Estimate(0.0, 0.0), margin=0, lower_is_better=False).verdict),
        limits={
            fact: (int(sets[fact].min()), int(sets[fact].max())) for fact in ("rows", "features", "classes")
        },
    )


def judged(frame: "pd.DataFrame", sets: "pd.DataFrame", guess: NDArray[np.float64]) -> dict[str, Any]:
    """How far log2(units) foretold are from adequate, and what that costs: means and 95 % half-widths."""
    octaves = np.log2(sets["adequate"].to_numpy(dtype=float))
    distances = np.abs(guess - octaves)
    parts = {
        "octaves": distances,
        "gain": np.abs(np.log2(FIXED) - octaves) - distances,
        "regret": regrets(frame, sets, guess),
    }
    numbers: dict[str, Any] = {}
    for name, values in parts.items():
        numbers[f"{name}_mean"], numbers[f"{name}_half_width"] = _mean(values)
    return numbers | {"within_two": float(np.mean(distances <= 1))}


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), mean_half_width(values.tolist())
