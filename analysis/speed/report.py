"""All rows: run, table."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from math import nan
from statistics import median
from typing import Any

from analysis.speed.capacity import decoders, needs, reports
from analysis.speed.config import GROUPS, QUICK, Config, Group
from analysis.speed.files import files, peer_files
from analysis.speed.grid import clusters, processes
from analysis.speed.lossless import lossless
from analysis.speed.pruning import pruning, shrinking, transformers
from analysis.speed.quantization import integers, runtimes
from analysis.speed.rates import peer_rates
from analysis.speed.starting import starting
from analysis.speed.timing import Benchmark, flops_per_second, say, seconds
from analysis.speed.together import ensembles, precision
from analysis.speed.training import cached_heads, training

JOBS: dict[Group, Callable[[Config], Iterator[Benchmark]]] = {
    "starting": starting, "reports": reports, "decoders": decoders, "needs": needs, "training": training,
    "ensembles": ensembles, "precision": precision, "cached-heads": cached_heads, "pruning": pruning,
    "shrinking": shrinking, "transformers": transformers, "integers": integers, "runtimes": runtimes,
    "files": files, "lossless": lossless, "peer-files": peer_files, "peer-rates": peer_rates,
    "clusters": clusters, "processes": processes,
}  # fmt: skip


def measure(config: Config) -> Iterator[dict[str, Any]]:
    """A row per job, as it is done: median seconds of both sides, and the median of the paired ratios.

    On the processor, but for the networks of "peer-rates", which are trained wherever it is fastest.
    """
    from compression.processes import on_device

    for group in config.only or GROUPS:
        with nullcontext() if group == "peer-rates" else on_device("cpu"):
            for job in JOBS[group](config):
                yield _timed(job, config)


def _timed(job: Benchmark, config: Config) -> dict[str, Any]:
    pairs = [(seconds(job.ours), seconds(job.theirs))]  # the first run warms up
    if not config.smoke and not max(pairs[0]) > 10:
        pairs = [(seconds(job.ours), seconds(job.theirs)) for _ in range(config.repeats)]
    theirs_s = median(theirs for _, theirs in pairs)
    return {
        "job": job.name,
        "peer": job.peer,
        "ours_ms": 1e3 * median(ours for ours, _ in pairs),
        "peer_ms": 1e3 * theirs_s,
        "ratio": median(theirs / ours for ours, theirs in pairs),
        "possible_ratio": theirs_s * flops_per_second(_side(config)) / job.flops if job.flops else nan,
        "goal": job.goal,
        "runs": len(pairs),
    }


def _side(config: Config) -> int:
    """Of the matrices whose product shows how fast this machine multiplies."""
    return 64 if config.smoke else 2048


def start(config: Config) -> None:
    """Print what the ratio is, and the table; interrupted or stopped by an error, that of what was done."""
    rows: list[dict[str, Any]] = []
    try:
        for row in measure(config):
            rows.append(row)
    finally:
        _show(rows, config)


def _show(rows: list[dict[str, Any]], config: Config) -> None:
    import pandas as pd
    import torch

    from analysis.lab.reporting.columns import table_of

    if not rows:
        return
    frame = pd.DataFrame(rows)
    names = ("job", "peer", "ours_ms", "peer_ms", "ratio", "possible_ratio", "goal", "runs")
    setting = f"torch {torch.__version__}, threads: {torch.get_num_threads()}"
    say(f"peer / ours: above 1 ours is faster; {setting}")
    if frame["possible_ratio"].notna().any():
        sides = f"{_side(config)} x {_side(config)}"
        say(f"at most: if ours took only its matrix products, and these were as fast as one of {sides}")
    if config.only == QUICK:
        say(f"not timed without --preset full: {', '.join(group for group in GROUPS if group not in QUICK)}")
    print(f"\n{table_of(frame, names, more='with --wide').text(wide=config.wide)}")
