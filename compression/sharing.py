"""share_weights(): a tensor's weights share a few values, found by k-means and trained by their gradients.

The first two thirds of Deep Compression (Han et al. 2016, arXiv:1510.00149): what pruning left is sorted
into clusters, each cluster is one value, and the values, not the weights, are trained further. Zero stays
zero and costs no place in the code book. `compression.codec` writes the rest.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import clone, fold_parametrizations, plain_copy
from capacity.columns import KEY, Column
from capacity.errors import InputError, unknown
from capacity.inputs import as_integer, require_python, require_weights
from capacity.parametrized import parametrize_all
from capacity.tables import Table, Tabular
from compression._moved import keep_old_names
from compression.codec.context_model import entropy_bits
from compression.counting import LARGEST_HALF, SMALLEST_HALF
from compression.masks import split_name
from compression.rates import placed
from compression.training import Retrain, model_of

Init = Literal["linear", "random", "density"]
INITS = ("linear", "random", "density")
MOST_BITS = 12
ITERATIONS = 100
FAINT = 2.0**-20  # below it half precision has less than four bits


@dataclass(frozen=True)
class SharedTensor:
    """One tensor: how many values its non-zero elements share, and the root mean square of what that cost."""

    name: str
    elements: int
    nonzero: int
    bits: int
    values: int
    rms_weight: float
    rms_error: float


COLUMNS = (
    Column("name", "tensor", importance=KEY),
    Column("elements", "elements", style=",", importance=5),
    Column("nonzero", "non-zero", style=",", importance=4),
    Column("bits", "bits", style=",", importance=3),
    Column("values", "values", style=",", importance=6),
    Column("rms_weight", "rms weight", style=".3g", importance=2),
    Column("rms_error", "rms error", style=".3g", importance=7),
)


@dataclass(frozen=True)
class ShareResult(Tabular):
    """A model whose tensors hold few values each."""

    model: nn.Module
    tensors: tuple[SharedTensor, ...]

    def table(self) -> Table:
        """A row per shared tensor."""
        most = max((tensor.values for tensor in self.tensors), default=0)
        elements = sum(tensor.elements for tensor in self.tensors)
        title = f"{elements:,} elements of {len(self.tensors)} tensors share at most {most:,} values each"
        return Table(COLUMNS, [vars(tensor) for tensor in self.tensors], title, label="tab:sharing")


@checks.arguments(
    budget_bytes=checks.optional(checks.number),
    init=checks.word(*INITS),
    retrain=checks.optional(checks.function(1)),
    seed=checks.seed,
)
def share_weights(
    model: nn.Module,
    *,
    bits: int | Mapping[str, int] = 5,
    budget_bytes: float | None = None,
    init: Init = "linear",
    retrain: Retrain | None = None,
    seed: int = 0,
) -> ShareResult:
    """A copy of the model in which the non-zero elements of each tensor share at most 2^bits values.

    Parameters
    ----------
    bits: of the index into each parameter's code book; a dict gives them by the parameter's full name, and
        leaves out those that stay as they are
    budget_bytes: choose the bits of each parameter (up to `bits`) so that all indices and code books
        together take at most so many bytes, where a byte lowers the squared error most
    init: where the clusters start: "linear", evenly between the least and the largest weight; "density",
        at evenly spaced quantiles; "random", at weights drawn with `seed`
    retrain: model with shared values in it -> trained model, or what `fit` returns. Each value follows the
        mean of its weights' gradients, which is what stepping by each and then averaging gives; the sum, as
        in the paper, is a learning rate thousands of times larger for large clusters

    Values are kept in half precision, in single where all are below 2^-20 or one is above 65504. Masks
    are folded first.

    Raises InputError for bits outside 1 to 12, unknown parameters, a budget that one bit for each exceeds,
    and parameters that are not finite.
    """
    require_weights(model)
    require_python(model)
    plain = plain_copy(model)
    floats = {name: p for name, p in plain.named_parameters() if p.is_floating_point()}
    wanted = _wanted_bits(floats, bits)
    weights = {name: floats[name].detach()[floats[name].detach() != 0] for name in wanted}
    for name, nonzero in weights.items():
        if not bool(torch.isfinite(nonzero).all()):
            raise InputError(f"{name} holds values that are not finite, which no cluster has")
    weights = {name: nonzero for name, nonzero in weights.items() if len(nonzero)}
    generator = torch.Generator().manual_seed(seed)
    if budget_bytes is not None:
        wanted = _within(budget_bytes, weights, wanted, init, generator)
    before = {name: floats[name].detach().clone() for name in weights}
    for name, nonzero in weights.items():
        book = cluster(nonzero, 2 ** wanted[name], init=init, generator=generator)
        parametrize_all(plain, *split_name(plain, name), _Shared(floats[name].detach(), book))
    trained: nn.Module = plain
    if retrain is not None:
        trained = model_of(retrain(plain))
    folded = fold_parametrizations(clone(trained)).eval()
    return ShareResult(folded, tuple(_row(name, folded, before[name], wanted[name]) for name in weights))


def _wanted_bits(floats: Mapping[str, Tensor], bits: int | Mapping[str, int]) -> dict[str, int]:
    wanted = dict(bits) if isinstance(bits, Mapping) else dict.fromkeys(floats, bits)
    for name, number in wanted.items():
        if name not in floats:
            raise unknown("parameter to share", name, floats)
        wanted[name] = as_integer(f"bits of {name}", number, least=0)
        if not 1 <= wanted[name] <= MOST_BITS:
            raise InputError(f"bits of {name} must lie between 1 and {MOST_BITS}, found {number}")
    return wanted


def _row(name: str, model: nn.Module, before: Tensor, bits: int) -> SharedTensor:
    before, after = before.cpu(), model.get_parameter(name).detach().cpu()  # retraining may move the model
    nonzero = before != 0
    count = int(nonzero.sum())
    values = len(torch.unique(after[nonzero]))
    weight, error = before[nonzero].double(), (after - before)[nonzero].double()
    rms = [float(part.square().mean().sqrt()) for part in (weight, error)]
    return SharedTensor(name, before.numel(), count, bits, values, rms[0], rms[1])


def cluster(
    weights: Tensor, count: int, *, init: Init = "linear", generator: torch.Generator | None = None
) -> Tensor:
    """At most `count` values, ascending and in half precision, that stand for these weights: 1-D k-means.

    Lloyd's algorithm on sorted weights, where each cluster is an interval and its mean a difference of
    cumulative sums. Clusters that lose all their weights go.

    >>> cluster(torch.tensor([0.0, 0.25, 4.0, 4.5]), 2).tolist()
    [0.125, 4.25]
    """
    ordered = weights.detach().double().flatten().cpu().sort().values
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    centers = _start(ordered, count, init, generator)
    for _ in range(ITERATIONS):
        edges = torch.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2)
        edges = torch.cat([edges.new_zeros(1), edges, edges.new_full((1,), len(ordered))])
        sizes = edges.diff()
        means = (sums[edges[1:]] - sums[edges[:-1]])[sizes > 0] / sizes[sizes > 0]
        if len(means) == len(centers) and torch.equal(means, centers):
            break
        centers = means
    return _distinct(_half(centers))


def _half(values: Tensor) -> Tensor:
    """Values as half precision has them, in single precision; none becomes zero or infinite by it.

    Where the largest is beyond it, or keeps less than four bits, all stay in single precision.
    """
    if not FAINT <= float(values.abs().max()) <= LARGEST_HALF:
        singles = values.float()
        return torch.where(singles == 0, torch.finfo(singles.dtype).tiny, singles)
    halves = values.half()
    smallest = torch.copysign(torch.tensor(SMALLEST_HALF, dtype=torch.float16), values.half())
    return torch.where(halves == 0, smallest, halves).float()


def _distinct(values: Tensor) -> Tensor:
    distinct: Tensor = values.unique()
    return distinct


def _start(ordered: Tensor, count: int, init: Init, generator: torch.Generator | None) -> Tensor:
    count = min(count, len(ordered))
    if init == "linear":
        return _distinct(torch.linspace(float(ordered[0]), float(ordered[-1]), count, dtype=torch.float64))
    if init == "density":
        places = (torch.arange(count, dtype=torch.float64) + 0.5) / count * len(ordered)
        return _distinct(ordered[places.long()])
    return _distinct(ordered[torch.randperm(len(ordered), generator=generator)[:count]])


class _Shared(nn.Module):
    """A parametrization: a code book of values -> the tensor that holds them at its non-zero places."""

    def __init__(self, weight: Tensor, book: Tensor) -> None:
        super().__init__()
        self.shape = weight.shape
        self.where: Tensor
        self.index: Tensor
        flat = weight.flatten()
        self.register_buffer("where", flat.nonzero().flatten())
        book = book.to(weight)
        self.register_buffer("index", torch.searchsorted((book[1:] + book[:-1]) / 2, flat[self.where]))
        counts = torch.bincount(self.index, minlength=len(book)).clamp(min=1)
        self.counts: Tensor
        self.register_buffer("counts", counts.to(weight.dtype))
        self._book = [book]

    def forward(self, book: Tensor) -> Tensor:
        scaled = book / self.counts  # whose gradient is the mean over a cluster instead of the sum
        values = (
            scaled + (_half(book.detach()).to(book.dtype) - scaled).detach()
        )  # the file holds halves, gradients pass
        return placed(values[self.index], self.where, self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self._book[0]


def _within(
    budget_bytes: float,
    weights: Mapping[str, Tensor],
    most: Mapping[str, int],
    init: Init,
    generator: torch.Generator,
) -> dict[str, int]:
    """Bits per tensor: from one each, always the next bit where it lowers squared error most per byte."""
    options = {
        name: [_option(nonzero, number, init, generator) for number in range(1, most[name] + 1)]
        for name, nonzero in weights.items()
    }
    chosen = dict.fromkeys(weights, 1)
    spent = sum(option[0][0] for option in options.values())
    if spent > budget_bytes:
        raise InputError(
            f"budget_bytes={budget_bytes:,.0f}: one bit for each parameter takes {spent:,.0f} bytes already; "
            f"prune more first"
        )

    def gain(name: str) -> tuple[float, str] | None:
        number = chosen[name]
        if number >= len(options[name]):
            return None
        (size, error), (larger, smaller) = options[name][number - 1 : number + 1]
        return -(error - smaller) / max(larger - size, 1e-9), name

    queue = [entry for name in chosen if (entry := gain(name)) is not None]
    heapq.heapify(queue)
    while queue:
        _, name = heapq.heappop(queue)
        number = chosen[name]
        more = options[name][number][0] - options[name][number - 1][0]
        if spent + more > budget_bytes:
            continue
        chosen[name], spent = number + 1, spent + more
        if (entry := gain(name)) is not None:
            heapq.heappush(queue, entry)
    return {**most, **chosen}


def _option(nonzero: Tensor, bits: int, init: Init, generator: torch.Generator) -> tuple[float, float]:
    """Bytes of indices (by entropy) and code book, and the squared error, of one tensor at these bits."""
    book = cluster(nonzero, 2**bits, init=init, generator=generator)
    index = torch.searchsorted((book[1:] + book[:-1]) / 2, nonzero.float().cpu())
    index_bits = entropy_bits(torch.bincount(index, minlength=len(book)).numpy())
    error = float((book[index] - nonzero.float().cpu()).double().square().sum())
    return index_bits / 8 + 2 * len(book), error


keep_old_names(__name__)
