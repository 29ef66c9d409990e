"""Does the theory hold? Train networks on random labels and see where perfect memorization ends.

A perceptron with K weights separates all labelings of N points in general position for N <= K and exactly
half of them at N = 2K (Cover 1965; MacKay 2003, chapter 40). For any network, the LM point is the largest
N at which every labeling tried was memorized ("lossless memory"), the MK point the N at which half were
("MacKay"); theory puts them at or below its capacity C and 2C.

Training that stops early looks like lack of capacity. Three controls tell them apart: for a perceptron,
linear programming decides exactly what can be separated; for any network, training again from other
initial weights, since what any start memorizes the capacity allows; and the same training on labels that
another network of the same architecture made, which therefore can be memorized.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import comb, log
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from capacity import checks
from capacity._generalization import wilson_interval
from capacity.columns import KEY, Column, is_missing
from capacity.errors import InputError
from capacity.inputs import require_module
from capacity.seeding import seed_generators
from capacity.tables import Table, Tabular

RATE, STEPS = 0.05, 2000  # of Adam, annealed to zero
TOGETHER = 2**22  # numbers in the points of the labelings trained in one batch
MOST_DRAWN = 2**34  # numbers of random points, which are 128 GiB
EXACT_POINTS = 4096  # up to here Cover's formula is added up in whole numbers
ENUMERATED_POINTS = 12  # up to here every labeling is decided, which takes at most 2,048 linear programs


@checks.arguments(points=checks.integer, weights=checks.integer)
def cover_fraction(points: int, weights: int) -> float:
    """C(N, K) / 2^N: share of the labelings of N points in general position that K weights separate.

    C(N, K) = 2 · Σ_{k < K} binomial(N - 1, k), for a separating plane through the origin.

    Reference: Cover 1965, "Geometrical and statistical properties of systems of linear inequalities".

    >>> cover_fraction(4, 4), cover_fraction(8, 4)
    (1.0, 0.5)
    """
    if points < 1 or weights < 1:
        raise InputError(f"points and weights must be at least 1, found {points} and {weights}")
    if points > EXACT_POINTS:
        from scipy.special import betainc

        few = min(weights, points)
        return 1.0 if few == points else float(betainc(points - few, few, 0.5))
    learned = sum(comb(points - 1, k) for k in range(min(weights, points)))
    return float(learned / 2 ** (points - 1))


@checks.arguments(inputs=checks.array, signs=checks.array)
def separable(inputs: np.ndarray, signs: np.ndarray) -> bool:
    """Whether weights w exist with sign(w · x) = y for every row; decided exactly by linear programming.

    inputs: (N, K), a column of ones for a bias included; signs: (N,) of -1 and 1.

    Raises InputError for other shapes and signs, and for inputs that are no finite numbers.
    """
    from scipy.optimize import linprog

    inputs, signs = _finite("inputs", inputs), _finite("signs", signs)
    if inputs.ndim != 2 or signs.shape != inputs.shape[:1]:
        raise InputError(
            f"inputs must be (N, K) and signs (N,), found {tuple(inputs.shape)} and {tuple(signs.shape)}"
        )
    if not np.isin(signs, (-1, 1)).all():
        raise InputError(f"signs must be -1 and 1, found {np.unique(signs)[:4].tolist()}")
    count, width = inputs.shape
    solution = linprog(
        np.zeros(width), A_ub=-signs[:, None] * inputs, b_ub=-np.ones(count), bounds=(None, None)
    )
    return bool(solution.status == 0)


def _finite(name: str, values: Any) -> np.ndarray:
    """An array or a tensor as numbers in double precision; raises InputError for what are none."""
    plain = values.detach().cpu() if isinstance(values, Tensor) else values
    try:
        numbers = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, found an array of type {plain.dtype}") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{name} must be finite, found NaN or infinity")
    return numbers


@dataclass(frozen=True)
class MemorizationPoint:
    """N points: of `trials` random labelings, how many were memorized, and by which means.

    `memorized` counts those the first start memorized, `restarted` those any start did, `decided` those a
    linear program separates (perceptrons only) of `decided_trials`: the same labelings or, where these are
    few enough, every labeling of the first set of points there is. `planted` counts those memorized of as
    many labelings that another network of the same architecture made.
    """

    points: int
    trials: int
    memorized: int
    restarted: int
    decided: int | None
    decided_trials: int
    planted: int
    cover: float | None

    @property
    def possible(self) -> int:
        """Labelings known to be within the network's reach: the exact count, or what any start memorized."""
        return self.restarted if self.decided is None else self.decided

    @property
    def possible_trials(self) -> int:
        """The labelings that `possible` is out of."""
        return self.trials if self.decided is None else self.decided_trials

    @property
    def possible_share(self) -> float:
        return self.possible / self.possible_trials

    @property
    def enumerated(self) -> bool:
        """Whether every labeling was decided, so that the share is exact."""
        return bool(self.decided_trials == 2**self.points)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the share of possible labelings; the share itself where it is exact."""
        if self.enumerated:
            return self.possible_share, self.possible_share
        return wilson_interval(self.possible, self.possible_trials)


def _share(name: str) -> Callable[[Mapping[Any, Any]], float]:
    return lambda row: float(row[name] / row["trials"])


def _interval(row: Mapping[Any, Any]) -> str:
    return f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _separable(row: Mapping[Any, Any]) -> float | None:
    return None if is_missing(row["decided"]) else float(row["possible_share"])


POINTS = (
    Column("points", "points N", style=",", importance=KEY),
    Column("ratio", "N / C", style=".2f", value=lambda row: row["points"] / row["capacity_bits"]),
    Column("memorized", "one start", "%", factor=100, style=".1f", importance=3, value=_share("memorized")),
    Column("planted", "planted", "%", factor=100, style=".1f", importance=2, value=_share("planted")),
    Column("restarted", "any start", "%", factor=100, style=".1f", importance=5, value=_share("restarted")),
)
SEPARABLE = (
    Column("cover", "Cover", "%", factor=100, style=".1f", importance=7),
    Column("possible_share", "separable", "%", factor=100, style=".1f", importance=6),
)
INTERVAL = Column("interval", "95 % of any start", style="s", importance=4, value=_interval)
COLUMNS = (*POINTS, INTERVAL)
DECIDED = (*POINTS, *SEPARABLE, replace(INTERVAL, header="95 % of separable"))
ALL = (
    *POINTS, SEPARABLE[0], replace(SEPARABLE[1], value=_separable),
    replace(INTERVAL, header="95 % of the last"),
)  # fmt: skip


@dataclass(frozen=True)
class Memorization(Tabular):
    """Memorized share against the number of points, for one architecture."""

    name: str
    capacity_bits: int
    parameters: int
    curve: tuple[MemorizationPoint, ...]

    @property
    def lm_point(self) -> int:
        """Largest N up to which every labeling tried was memorized; 0 if none was."""
        largest = 0
        for point in self.curve:
            if point.possible < point.possible_trials:
                break
            largest = point.points
        return largest

    @property
    def lm_interval(self) -> tuple[int, float]:
        """Between which N the LM point lies: the last without a miss, the first with one or infinity."""
        beyond = [point.points for point in self.curve if point.points > self.lm_point]
        return self.lm_point, float(min(beyond, default=np.inf))

    def mk_point(self, *, draws: int = 1000, seed: int = 0) -> tuple[float, float, float]:
        """N at which half of the labelings are memorized, and its 95 % bootstrap interval; NaN beyond."""
        sizes = np.array([point.points for point in self.curve])
        shares = np.array([point.possible_share for point in self.curve])
        trials = np.array([point.possible_trials for point in self.curve])
        generator = np.random.default_rng(seed)
        resampled = generator.binomial(trials, shares, size=(draws, len(trials))) / trials
        exact = np.array([point.enumerated for point in self.curve])
        resampled[:, exact] = shares[exact]
        crossings = [_crossing(sizes, shares) for shares in resampled]
        low, high = (
            np.nanquantile(crossings, [0.025, 0.975]) if not np.isnan(crossings).all() else (np.nan,) * 2
        )
        return _crossing(sizes, shares), float(low), float(high)

    @property
    def optimizer_failed(self) -> tuple[int, ...]:
        """N at which the first start missed labelings that are possible, or planted ones: not capacity."""
        return tuple(p.points for p in self.curve if p.memorized < p.restarted or p.planted < p.trials)

    def table(self) -> Table:
        """A row per number of points."""
        middle, low, high = self.mk_point()
        first = f"{self.lm_interval[1]:g}" if math.isfinite(self.lm_interval[1]) else "more than tried"
        lm = f"LM point {self.lm_point} ({self.lm_point / self.capacity_bits:.2f} C)"
        lm += f", first miss at N = {first}"
        mk = f"MK point {middle:.1f} [{low:.1f}, {high:.1f}] ({middle / self.capacity_bits:.2f} C)"
        if math.isnan(middle):
            mk = "MK point beyond the points tried"
        failed = ", ".join(map(str, self.optimizer_failed))
        note = f"the optimiser, not the capacity, failed on some labelings at N = {failed}"
        title = f"{self.name}: {self.parameters} parameters, capacity C = {self.capacity_bits} bits"
        return Table(
            DECIDED if self.curve[0].decided is not None else COLUMNS, list(map(self._row, self.curve)),
            title, (f"{lm}, {mk}", *([note] if failed else [])),
            caption=f"Share of random labelings of N points that {title} memorize",
            label=f"tab:memorization-{self.name}",
        )  # fmt: skip

    def _row(self, point: MemorizationPoint) -> dict[str, Any]:
        low, high = point.interval
        named = {"name": self.name, "capacity_bits": self.capacity_bits}
        return named | vars(point) | {"possible_share": point.possible_share, "low": low, "high": high}


def _crossing(sizes: np.ndarray, shares: np.ndarray) -> float:
    """Where a falling curve of shares crosses one half, linearly between its points."""
    for k in range(1, len(sizes)):
        if shares[k - 1] >= 0.5 > shares[k]:
            step = (shares[k - 1] - 0.5) / (shares[k - 1] - shares[k])
            return float(sizes[k - 1] + step * (sizes[k] - sizes[k - 1]))
    return float("nan")


@checks.arguments(
    build=checks.function(0),
    inputs=checks.count,
    points=checks.each(checks.count),
    trials=checks.count,
    restarts=checks.count,
    seed=checks.seed,
)
def memorization(
    build: Callable[[], nn.Module],
    inputs: int,
    points: Sequence[int],
    *,
    trials: int = 50,
    restarts: int = 3,
    seed: int = 0,
) -> Memorization:
    """Train a network on random binary labels of random points, for each number of points.

    Parameters
    ----------
    build: makes the network, (B, inputs) -> (B, 1), with fresh random weights at each call; a network
        that is one nn.Linear is decided by linear programming too
    inputs: features of one point, drawn from a standard normal distribution
    points: numbers of points N to try
    trials: labelings for each N, those of all N trained side by side
    restarts: further starts, from other initial weights, for labelings not memorized before

    Raises InputError for numbers below 1 and networks with more than one output.

    Reference: MacKay 2003, "Information Theory, Inference, and Learning Algorithms", chapter 40.
    """
    from capacity.measuring import measure

    if min([inputs, trials, restarts + 1, *points]) < 1 or not points:
        raise InputError("inputs, trials and every number of points must be at least 1, restarts at least 0")
    if inputs * trials * sum(points) > MOST_DRAWN:
        raise InputError(
            f"inputs, points and trials are {inputs * trials * sum(points):,} numbers to draw, more than "
            f"{MOST_DRAWN:,}"
        )
    with torch.random.fork_rng():
        seed_generators(seed)
        network = build()
        require_module(network, "what build() returns")
        report = measure(network, (inputs,))
        outputs = network(torch.zeros(2, inputs))
        if not isinstance(outputs, Tensor) or outputs.shape != (2, 1):
            shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise InputError(
                f"memorization needs a network with one output for each sample: (2, 1) of two, found {shape}"
            )
        linear = network if isinstance(network, nn.Linear) else None
        generator = np.random.default_rng(seed)
        drawn = [
            (generator.normal(size=(trials, count, inputs)), generator.choice([-1.0, 1.0], (trials, count)))
            for count in points
        ]
        trained = _trained(build, drawn, restarts)
    curve = tuple(_point(linear, *labeled, *counts) for labeled, counts in zip(drawn, trained, strict=True))
    return Memorization(_name(network), report.capacity_bits, report.total_parameters, curve)


def _trained(
    build: Callable[[], nn.Module], drawn: Sequence[tuple[np.ndarray, np.ndarray]], restarts: int
) -> list[tuple[int, int, int]]:
    """Labelings memorized by one start, by any, and of those planted, for each number of points drawn.

    All of them are trained side by side: fewer points than most are filled up with points of no label.
    """
    widest = max(x.shape[1] for x, _ in drawn)
    data = torch.cat([_filled(x, widest) for x, _ in drawn])
    labels = torch.cat([_filled(signs, widest) for _, signs in drawn])
    with torch.no_grad():
        outputs = torch.stack([build()(rows).flatten() for rows in data])
    planted = torch.where(outputs >= 0, 1.0, -1.0) * labels.abs()
    first, made = _train(build, data.repeat(2, 1, 1), torch.cat([labels, planted])).chunk(2)
    some = first.clone()
    for _ in range(restarts):
        if not bool(some.all()):
            some[~some] = _train(build, data[~some], labels[~some])
    trials = len(drawn[0][0])
    counts = torch.stack([first, some, made]).view(3, -1, trials).sum(2).T
    return [(int(one), int(more), int(known)) for one, more, known in counts.tolist()]


def _filled(values: np.ndarray, width: int) -> Tensor:
    """(labelings, points, ...) as floats, zeros added up to so many points."""
    filled = np.zeros((len(values), width, *values.shape[2:]), np.float32)
    filled[:, : values.shape[1]] = values
    return torch.from_numpy(filled)


def _point(
    linear: nn.Linear | None, x: np.ndarray, signs: np.ndarray, one: int, some: int, made: int
) -> MemorizationPoint:
    """One number of points: x is (labelings, points, features), signs (labelings, points)."""
    trials, points, _ = x.shape
    decided, decided_trials, cover = None, 0, None
    if linear is not None:
        full = x if linear.bias is None else np.concatenate([x, np.ones((trials, points, 1))], axis=2)
        decided, decided_trials = _decide(full, signs)
        cover = cover_fraction(points, full.shape[2])
    return MemorizationPoint(points, trials, one, some, decided, decided_trials, made, cover)


def _decide(x: np.ndarray, signs: np.ndarray) -> tuple[int, int]:
    """Separable labelings, and out of how many: all there are of the first points, or those drawn."""
    count = x.shape[1]
    if count > ENUMERATED_POINTS:
        return sum(separable(rows, wanted) for rows, wanted in zip(x, signs, strict=True)), len(x)
    half = product([-1.0, 1.0], repeat=count - 1)  # a labeling and its opposite go together
    half_count = sum(separable(x[0], np.array([1.0, *rest])) for rest in half)
    return 2 * half_count, 2**count


def _train(build: Callable[[], nn.Module], x: Tensor, signs: Tensor) -> Tensor:
    """Which labelings were memorized at some step; (labelings,). Points of sign 0 do not count."""
    together = max(1, TOGETHER // x[0].numel())
    parts = zip(x.split(together), signs.split(together), strict=True)
    return torch.cat([_train_part(build, *part) for part in parts])


def _train_part(build: Callable[[], nn.Module], x: Tensor, signs: Tensor) -> Tensor:
    """One network for each labeling, all in one batch; those that have memorized theirs leave it."""
    from torch.func import functional_call, stack_module_state, vmap

    networks = [build().train() for _ in range(len(x))]
    parameters, buffers = stack_module_state(networks)
    leaves = {key: value.detach().clone().requires_grad_() for key, value in parameters.items()}
    shape = networks[0]

    def one(weights: dict[str, Tensor], extra: dict[str, Tensor], rows: Tensor) -> Any:
        return functional_call(shape, (weights, extra), (rows,)).flatten()

    optimizer: torch.optim.Optimizer = torch.optim.Adam(list(leaves.values()), lr=RATE, fused=True)
    memorized, left = torch.zeros(len(x), dtype=torch.bool), torch.arange(len(x))
    for step in range(STEPS):
        margins = vmap(one)(leaves, buffers, x) * signs
        memorized[left] |= ((margins > 0) | (signs == 0)).all(dim=1).detach()
        if step % 50 == 0 or bool(memorized[left].all()):
            stay = ~memorized[left]
            if not bool(stay.any()):
                break
            left, x, signs = left[stay], x[stay], signs[stay]
            buffers = {key: value[stay] for key, value in buffers.items()}
            leaves, optimizer = _of_those(leaves, optimizer, stay)
            margins = vmap(one)(leaves, buffers, x) * signs
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        losses = torch.nn.functional.softplus(-margins * log(2) * 2) * signs.abs()
        (losses.sum(dim=1) / signs.abs().sum(dim=1)).sum().backward()
        optimizer.step()
    return memorized


def _of_those(
    leaves: dict[str, Tensor], optimizer: torch.optim.Optimizer, stay: Tensor
) -> tuple[dict[str, Tensor], torch.optim.Optimizer]:
    """The parameters and the optimizer's averages of the networks that stay."""
    chosen = {key: value.detach()[stay].requires_grad_() for key, value in leaves.items()}
    smaller = torch.optim.Adam(list(chosen.values()), lr=RATE, fused=True)
    for key, value in leaves.items():
        state = optimizer.state.get(value, {})
        smaller.state[chosen[key]] = {name: t[stay] if t.dim() else t for name, t in state.items()}
    return chosen, smaller


def _name(network: nn.Module) -> str:
    widths = [f"{m.in_features}" for m in network.modules() if isinstance(m, nn.Linear)]
    outputs = [m.out_features for m in network.modules() if isinstance(m, nn.Linear)][-1:]
    return "-".join([*widths, *map(str, outputs)]) or type(network).__name__
