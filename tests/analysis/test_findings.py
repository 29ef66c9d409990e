"""The numbers in the capacity guide are those of the recorded runs' own summaries."""

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.description_length.report import best
from analysis.lab.runs.loading import Run, finished
from analysis.reparametrization.report import moves
from analysis.sizing.advice import advice_of
from analysis.sizing.judging import foretell, foretell_by_the_best
from analysis.sizing.predictors import REACHED
from analysis.sizing.sizes import adequate
from capacity import mean_half_width
from capacity.columns import with_interval

ROOT = Path(__file__).parents[2]
GUIDE = " ".join((ROOT / "capacity" / "README.md").read_text(encoding="utf-8").split())
SIZES = {
    "two small networks first: what 16 units gain over 4": "pilot: 4 units beyond 16",
    "label changes, the best number of the data alone": "label changes",
    "the units whose capacity reaches the expected need": REACHED,
}
MEASURES = {
    "Frobenius norm of the weights": "Frobenius norm",
    "sharpness": "sharpness",
    "distance from the start": "distance from the start",
    "product of spectral norms": "product of spectral norms",
    "error that the coded file guarantees": "error that the file guarantees",
    "1/ρ on the training split": "1/rho on the training split",
    "parameters": "parameters",
    "capacity (MEC)": "capacity (MEC)",
}


@cache
def summary_of(name: str) -> pd.DataFrame:
    return run(name).summary()


def run(name: str) -> Run:
    return finished(ROOT / "paper" / "runs" / name)


@pytest.mark.parametrize(("said", "predictor"), SIZES.items())
def test_what_foretells_a_size(said: str, predictor: str) -> None:
    row = summary_of("sizing").set_index("predictor").loc[predictor]
    ranks = f"{row['rank']:+.2f} [{row['rank_low']:+.2f}, {row['rank_high']:+.2f}]"
    octaves, gain, regret = (
        with_interval(factor * row[f"{name}_mean"], factor * row[f"{name}_half_width"], style)
        for name, factor, style in (("octaves", 1, ".2f"), ("gain", 1, "+.2f"), ("regret", 100, ".1f"))
    )
    assert f"| {said} | {ranks} | {octaves} | {gain} | {regret} |" in GUIDE


def test_how_many_data_sets_the_range_held_and_the_target_that_is_missed() -> None:
    found = run("sizing")
    advice = advice_of(found.frame, "pilot")
    row = summary_of("sizing").set_index("predictor").loc["pilot: 4 units beyond 16"]
    assert f"held {advice.covered} of the {advice.data_sets} data sets left out" in GUIDE
    assert f"(within a factor of two: {100 * row['within_two']:.0f} %)" in GUIDE and row["within_two"] < 0.5


def gains(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """By the names of widths, log2(1 + rows · what the larger gains), (data sets, 1)."""
    sets = adequate(frame)
    errors = frame.groupby(["dataset", "width"])["validation_error"].mean().unstack().loc[sets["dataset"]]
    rows = sets["rows"].to_numpy(dtype=float)
    pairs = ((4, 16), (2, 8), (8, 32), (16, 64), (1, 4))
    return {
        f"{small}-{large}": np.log2(1 + rows * (errors[small] - errors[large]).clip(lower=0).to_numpy())[
            :, None
        ]
        for small, large in pairs
    }


def test_no_other_pair_of_pilots_is_shown_to_foretell_better() -> None:
    """The pair, or two pairs together, is chosen anew from the others for each data set left out."""
    frame = run("sizing").frame
    octaves = np.log2(adequate(frame)["adequate"].to_numpy(dtype=float))
    single = gains(frame)
    both = {f"{a}, {b}": np.hstack([single[a], single[b]]) for a in single for b in single if a < b}
    alone = np.abs(foretell_by_the_best({"4-16": single["4-16"]}, octaves).octaves - octaves)
    chosen = np.abs(foretell_by_the_best(single | both, octaves).octaves - octaves)
    nearer = alone - chosen
    half = mean_half_width(nearer.tolist())
    assert f"the best come {with_interval(float(nearer.mean()), half, '+.2f')} octaves nearer" in GUIDE
    assert nearer.mean() - half < 0
    assert (
        f"off by a factor of {2 ** np.median(chosen):.1f} in the median, {2 ** np.median(alone):.1f}" in GUIDE
    )


def ladder(frame: pd.DataFrame) -> np.ndarray:
    """log2 of the smallest adequate width of those up to 16, (data sets, 1)."""
    return np.log2(adequate(frame[frame["width"] <= 16])["adequate"].to_numpy(dtype=float))[:, None]


def gap(frame: pd.DataFrame) -> np.ndarray:
    """log2(1 + rows · what 16 units gain over 4), (data sets, 1)."""
    sets = adequate(frame[frame["width"] <= 16])
    return np.log2(1 + (sets["rows"] * sets["pilot_gap"].clip(lower=0)).to_numpy(dtype=float))[:, None]


def test_pilots_on_splits_of_their_own() -> None:
    """Those that share their splits with the size to be found share its chance too."""
    frame, pilots = run("sizing").frame, run("sizing-pilots").frame
    assert not set(frame["seed"]) & set(pilots["seed"]) and sorted(pilots["width"].unique())[-1] == 16
    octaves = np.log2(adequate(frame)["adequate"].to_numpy(dtype=float))
    alone = foretell_by_the_best({"gap": gap(pilots)}, octaves)
    distance = np.abs(alone.octaves - octaves)
    held = int((distance <= alone.half_ranges).sum())
    assert held / len(octaves) >= 0.8
    off = 2 ** np.median(distance)
    assert f"the range holds {held} of {len(octaves)}, off by a factor of {off:.1f} in the median" in GUIDE
    same, own = (
        2 ** np.median(np.abs(foretell(np.hstack([ladder(f), gap(f)]), octaves) - octaves))
        for f in (frame, pilots)
    )
    assert f"on the same splits ({same:.1f}), and does no better on its own ({own:.1f})" in GUIDE


def test_how_sharply_the_size_itself_is_found() -> None:
    frame = run("sizing").frame
    apart = []
    for pair in combinations(range(5), 2):
        two = frame["seed"].isin(pair)
        sizes = [np.log2(adequate(part)["adequate"].astype(float)) for part in (frame[two], frame[~two])]
        apart.append(np.abs(sizes[0] - sizes[1]))
    middle, mean = 2 ** np.median(apart), 2 ** np.mean(apart)
    assert f"differs by a factor of {middle:.0f} in the median, and of {mean:.1f} on average" in GUIDE


STAYS = {
    "margin": ["margin"], "path norm": ["path_norm"], "product of spectral norms": ["spectral_norm"],
    "effective capacity": ["effective_bits"],
    'capacity, "previous" and "running"': ["previous_bits", "running_bits"],
    "proven: bits of the weights, and parameters": ["storage_bits", "parameters"],
    "file, rounded by rate": ["rounded_bits"], "Frobenius norm": ["frobenius_norm"],
    "sharpness": ["sharpness"],
}  # fmt: skip


@pytest.mark.parametrize(("said", "measures"), STAYS.items())
def test_what_stays_while_the_function_stays(said: str, measures: list[str]) -> None:
    found = moves(summary_of("reparametrization")).set_index("measure")
    for measure in measures:
        row = found.loc[measure]
        ends = [f"{1 if abs(row[end] - 1) < 0.005 else row[end]:.2g}" for end in ("least", "most")]
        assert f"| {said} | {row['stays']:.0f} | {ends[0]}, {ends[1]} |" in GUIDE
    assert list(found[found["stays"] == 10].index) == ["margin"]
    assert run("reparametrization").frame["moved"].max() < 5e-7


@pytest.mark.parametrize("code", ["file", "prequential"])
def test_what_is_learned_of_the_digits(code: str) -> None:
    frame = run("description-digits").frame
    for labels in ("true", "shuffled"):
        rows = best(frame, labels, code)
        share = 100 * rows["learned_share"]
        said = with_interval(share.mean(), mean_half_width(share.tolist()), ".1f")
        assert f"{rows['description_bits'].mean():,.0f} bits, " in GUIDE
        assert f"{said} %" in GUIDE
    assert f"{frame['label_bits'].iloc[0]:,.0f} bits of {frame['samples'].iloc[0]:,.0f} labels" in GUIDE


@pytest.mark.parametrize(("said", "measure"), MEASURES.items())
def test_what_follows_generalization(said: str, measure: str) -> None:
    table = summary_of("generalization")
    name = next(c for c in table.columns if (table[c] == measure).any())
    row = table.set_index(name).loc[measure]
    assert f"| {said} | " in GUIDE
    line = GUIDE[GUIDE.index(f"| {said} | ") :].split("|")
    kinds = [c.removesuffix("_mean") for c in table.columns if c.endswith("_mean")]
    printed = {
        with_interval(f * row[f"{k}_mean"], f * row[f"{k}_half_width"], s)
        for k in kinds for f, s in ((1, "+.3f"), (100, ".2f"))
    }  # fmt: skip
    assert line[2].strip() in printed and line[3].strip().removesuffix(" %") in printed


def test_which_lines_are_crossed() -> None:
    found = run("memorization-bounds")
    rows = found.summary().set_index("line")
    said = {
        'capacity, conventions "previous" and "running"': "previous_bits",
        'capacity, convention "uncapped"': "uncapped_bits", "one bit a parameter": "parameters",
        "W log2 W": "w_log_w_bits", "proven: bits of the stored weights": "storage_bits",
    }  # fmt: skip
    for words, name in said.items():
        assert f"| {words} | {rows.loc[name, 'crossed']} | {rows.loc[name, 'most']:.3g} |" in GUIDE
    assert rows.loc["running_bits", "crossed"] == rows.loc["previous_bits", "crossed"]
    assert f"{rows.loc['piece_bits', 'crossed']} | {rows.loc['piece_bits', 'most']:.3g} |" in GUIDE
    assert f"median is {found.frame['bits_per_parameter'].median():.2f} bits a parameter" in GUIDE
