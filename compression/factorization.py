"""factorize(): dense and convolutional layers as products of smaller ones, by their singular values.

A dense layer W (outputs by inputs) becomes two of rank r: W ≈ (U√S)(√SVᵀ), found from the eigenvectors of
the smaller of WWᵀ and WᵀW in double precision, one decomposition a layer. A convolution becomes a k-wide
one into r channels and a pointwise one out of them ("svd": of the matrix outputs by inputs·kernel), or a
pointwise one in, a k-wide core and a pointwise one out ("tucker").

References: Denton et al. 2014, arXiv:1404.0736; Kim et al. 2016 (Tucker-2), arXiv:1511.06530.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import plain_copy
from capacity.columns import KEY, Column, percent
from capacity.errors import InputError, unknown
from capacity.inputs import without_weights
from capacity.tables import Table, Tabular
from compression.counting import distinct, flush_subnormals, parameter_count
from compression.factors import (
    CONVOLUTIONS,
    LAYERS,
    Factorized,
    computes_the_same,
    names_of,
    obstacle,
    product,
    users_of,
)

Method = Literal["svd", "tucker"]
METHODS = ("svd", "tucker")
Rank = int | float | tuple[int, int]
SWEEPS = 4  # of the alternating updates that improve Tucker factors


@dataclass(frozen=True)
class FactorizedLayer:
    """One layer: its rank (a pair for "tucker"), parameters, and ‖W - Ŵ‖ / ‖W‖ of its weight.

    `reason` says why a layer stayed whole; its rank is then None.
    """

    name: str
    rank: int | tuple[int, int] | None
    parameters_before: int
    parameters_after: int
    relative_error: float
    reason: str = ""


COLUMNS = (
    Column("name", "layer", importance=KEY),
    Column("rank", "rank", style="s", importance=6, value=lambda row: row["rank"] and str(row["rank"])),
    Column("parameters_before", "parameters before", style=",", importance=3),
    Column("parameters_after", "after", style=",", importance=4),
    Column("relative_error", "relative error", style=".3g", importance=5),
    Column("reason", "left whole because", prose=True, importance=4),
)


@dataclass(frozen=True)
class FactorizeResult(Tabular):
    """A model with some layers replaced by sequences of smaller ones; its parameters before and after.

    `ranks` gives the same architecture again, `factorize(fresh, rank=result.ranks, method=...)`, to load
    this one's weights into.
    """

    model: nn.Module
    method: str
    layers: tuple[FactorizedLayer, ...]
    parameters_before: int
    parameters_after: int

    @property
    def unfactorized(self) -> dict[str, str]:
        """Layers that were not factorized, and why."""
        return {layer.name: layer.reason for layer in self.layers if layer.reason}

    @property
    def ranks(self) -> dict[str, Rank]:
        """Rank of every layer that was factorized."""
        return {layer.name: layer.rank for layer in self.layers if layer.rank is not None}

    def table(self) -> Table:
        """A row per layer."""
        before, after = self.parameters_before, self.parameters_after
        left = f"{percent(after / before, 1)} left"
        title = f"{self.method}: {before:,} -> {after:,} parameters of the model ({left})"
        return Table(COLUMNS, [vars(layer) for layer in self.layers], title, label="tab:factorize")


@checks.arguments(
    method=checks.word(*METHODS),
    layers=checks.optional(checks.names),
    budget_parameters=checks.optional(checks.number),
)
def factorize(
    model: nn.Module,
    *,
    rank: Rank | Mapping[str, Rank] | None = None,
    budget_parameters: int | None = None,
    method: Method = "svd",
    layers: Sequence[str] | None = None,
) -> FactorizeResult:
    """A copy of the model with low-rank layers in place of whole ones; the model itself is not changed.

    Parameters
    ----------
    rank: an int is the rank itself; a float in (0, 1] the share of the squared singular values to keep;
        a pair for "tucker" the ranks of outputs and inputs; a dict gives one for each layer named
    budget_parameters: instead of ranks, the parameters that the layers may have in all: singular values
        are kept where they hold most of their layer's energy for what they cost
    method: "svd", or "tucker" for convolutions (dense layers are factorized by svd then too)
    layers: names of dense and convolutional layers; all of them by default

    Masks and parametrizations are folded. What stays whole is listed with the reason: layers whose factors
    would not be smaller, that share parameters with others (tied heads), that compute something else than
    their type (each replacement is run beside its layer), in attention, grouped and transposed convolutions.
    Where a model reads a layer's weight without calling it, it finds the product of the factors.

    Raises InputError for unknown layers, ranks that cannot be, weights that are NaN or infinite or have no
    memory, and a budget below what rank 1 everywhere takes.
    """
    if (rank is None) == (budget_parameters is None):
        raise InputError("give either rank or budget_parameters")
    copied = plain_copy(model)
    chosen = _chosen(copied, layers if not isinstance(rank, Mapping) else list(rank))
    users, names = users_of(copied), names_of(copied)
    spectra = {
        name: _Spectrum(name, module, method, obstacle(copied, name, module, users))
        for name, module in chosen.items()
    }
    ranks: Mapping[str, Rank]
    if budget_parameters is not None:
        ranks = _within(budget_parameters, spectra)
    else:
        assert rank is not None
        ranks = rank if isinstance(rank, Mapping) else dict.fromkeys(chosen, rank)
    rows, before = [], parameter_count(copied)
    for name, module in chosen.items():
        row, replacement = _factorized(spectra[name], ranks.get(name))
        rows.append(row)
        if replacement is not None:
            replacement.train(module.training)
            copied = _replaced(copied, names[module], replacement)
    return FactorizeResult(copied, method, tuple(rows), before, parameter_count(copied))


def _replaced(model: nn.Module, names: Sequence[str], replacement: nn.Module) -> nn.Module:
    """The model with a layer replaced wherever it stands."""
    if names == [""]:
        return replacement
    for name in names:
        model.set_submodule(name, replacement)
    return model


def _chosen(model: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Module]:
    chosen: dict[str, nn.Module] = {
        name: module for name, module in model.named_modules() if isinstance(module, LAYERS)
    }
    for name in names or ():
        if name not in chosen:
            raise unknown("layer to factorize (dense or convolutional)", name, chosen)
    if not chosen:
        raise InputError("the model has no dense or convolutional layer to factorize")
    return chosen if names is None else {name: chosen[name] for name in names}


class _Spectrum:
    """A layer's weight as a matrix, with its singular values; for "tucker", of outputs and of inputs."""

    def __init__(self, name: str, module: nn.Module, method: str, reason: str) -> None:
        self.name, self.module, self.reason = name, module, reason
        self.parameters = parameter_count(module)
        self.values: list[Tensor] = []
        self.vectors: list[Tensor] = []
        if reason:
            return
        weight = module.get_parameter("weight")
        if weight.is_meta:
            raise without_weights(f"{name}.weight")
        if not bool(torch.isfinite(weight).all()):
            raise InputError(f"layer {name!r}: weight holds NaN or infinity, and has no singular values")
        self.weight = weight.detach().double().cpu()
        self.tucker = method == "tucker" and isinstance(module, CONVOLUTIONS) and weight[0, 0].numel() > 1
        outputs = self.weight.flatten(1)
        inputs = self.weight.transpose(0, 1).flatten(1)
        matrices = [outputs, inputs] if self.tucker else [outputs]
        for matrix in matrices:
            values, vectors = _modes(matrix)
            self.values.append(values)
            self.vectors.append(vectors)
        least = [1] * len(self.values)
        if self.size(least) >= self.parameters:
            self.reason = _too_large(least, self.size(least))

    def by_energy(self, share: float) -> list[int]:
        """The smallest ranks that keep this share of the squared singular values."""
        ranks = []
        for values in self.values:
            energy = values.square().cumsum(0)
            ranks.append(int(torch.searchsorted(energy, share * energy[-1] * (1 - 1e-12))) + 1)
        return [min(number, len(values)) for number, values in zip(ranks, self.values, strict=True)]

    def size(self, ranks: Sequence[int]) -> int:
        """Parameters at these ranks, the bias included."""
        out, into = self.weight.shape[:2]
        kernel = self.weight[0, 0].numel()
        bias = out if getattr(self.module, "bias", None) is not None else 0
        if self.tucker:
            return into * ranks[1] + ranks[0] * ranks[1] * kernel + out * ranks[0] + bias
        return ranks[0] * (into * kernel + out) + bias


@torch.random.fork_rng()  # new layers are born with random weights
def _factorized(spectrum: _Spectrum, rank: Rank | None) -> tuple[FactorizedLayer, Factorized | None]:
    name, size = spectrum.name, spectrum.parameters
    if spectrum.reason or rank is None:
        reason = spectrum.reason or "nothing to save within the budget"
        return FactorizedLayer(name, None, size, size, 0.0, reason), None
    ranks = _ranks(spectrum, rank)
    if spectrum.size(ranks) >= size:
        return FactorizedLayer(name, None, size, size, 0.0, _too_large(ranks, spectrum.size(ranks))), None
    parts = _tucker(spectrum.weight, ranks) if spectrum.tucker else _svd(spectrum, ranks[0])
    made = (_tucker_layers if spectrum.tucker else _svd_layers)(spectrum.module, parts)
    if not computes_the_same(spectrum.module, made):
        reason = f"{type(spectrum.module).__name__} computes something else than its weight times its input"
        return FactorizedLayer(name, None, size, size, 0.0, reason), None
    return FactorizedLayer(
        name, _shown(ranks), size, parameter_count(made), _error(spectrum, parts, made)
    ), made


def _too_large(ranks: Sequence[int], parameters: int) -> str:
    return f"rank {_shown(ranks)} would take {parameters:,} parameters"


def _error(spectrum: _Spectrum, parts: Sequence[Tensor], made: Factorized) -> float:
    """‖W - Ŵ‖ / ‖W‖; in half precision with the rounding of the factors, which is no longer small."""
    half = torch.finfo(made.weight.dtype).bits < 32
    approximation = made.weight.detach().double().cpu() if half else product(parts)
    return float((approximation - spectrum.weight).norm() / spectrum.weight.norm().clamp(min=1e-300))


def _shown(ranks: Sequence[int]) -> int | tuple[int, int]:
    return ranks[0] if len(ranks) == 1 else (ranks[0], ranks[1])


def _ranks(spectrum: _Spectrum, rank: Rank) -> list[int]:
    if isinstance(rank, float):
        if not 0 < rank <= 1:
            raise InputError(f"layer {spectrum.name!r}: a rank as a share must lie in (0, 1], found {rank}")
        return spectrum.by_energy(rank)
    parts = rank if isinstance(rank, tuple) else (rank,)
    for part in parts:
        checks.integer(f"layer {spectrum.name!r}: rank", part)
    full = [len(values) for values in spectrum.values]
    wanted = list(rank) if isinstance(rank, tuple) else [min(rank, most) for most in full]
    if len(wanted) != len(full) or any(not 1 <= r <= most for r, most in zip(wanted, full, strict=False)):
        raise InputError(
            f"layer {spectrum.name!r}: rank must be at least 1, and a pair only for a convolution under "
            f"method='tucker'; found {rank}, with full rank {_shown(full)}"
        )
    return wanted


def _modes(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values, largest first, and the singular vectors of the shorter side as columns.

    Singular values below 1e-8 of the largest drown in rounding, with a square that no float32 would show.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    return squares.clamp(min=0).sqrt().flip(0), vectors.flip(1)


def _svd(spectrum: _Spectrum, rank: int) -> tuple[Tensor, ...]:
    """Factors (outputs, r) and (r, inputs, *kernel)."""
    weight, matrix = spectrum.weight, spectrum.weight.flatten(1)
    root, vectors = spectrum.values[0][:rank].sqrt(), spectrum.vectors[0][:, :rank]
    root = torch.where(root > 0, root, 1.0)
    if matrix.shape[0] <= matrix.shape[1]:
        left, right = vectors * root, (vectors.T @ matrix) / root[:, None]
    else:
        left, right = (matrix @ vectors) / root, root[:, None] * vectors.T
    return left, right.reshape(rank, *weight.shape[1:])


def _tucker(weight: Tensor, ranks: Sequence[int]) -> tuple[Tensor, ...]:
    """Factors (outputs, r), core (r, s, *kernel) and (s, inputs), by alternating least squares."""

    def leading(matrix: Tensor, rank: int) -> Tensor:
        vectors = _modes(matrix)[1]
        if matrix.shape[0] > matrix.shape[1]:
            vectors = torch.linalg.qr(matrix @ vectors)[0]
        return vectors[:, :rank]

    inputs = leading(weight.transpose(0, 1).flatten(1), ranks[1])
    for _ in range(SWEEPS):
        outputs = leading(torch.einsum("oi...,is->os...", weight, inputs).flatten(1), ranks[0])
        seen = torch.einsum("oi...,or->ri...", weight, outputs)
        inputs = leading(seen.transpose(0, 1).flatten(1), ranks[1])
    core = torch.einsum("oi...,or,is->rs...", weight, outputs, inputs)
    return outputs, core, inputs.T


def _svd_layers(module: nn.Module, parts: tuple[Tensor, ...]) -> Factorized:
    outputs, inputs = parts
    if isinstance(module, nn.Linear):
        first: nn.Module = nn.Linear(module.in_features, len(inputs), bias=False)
        last: nn.Module = nn.Linear(len(inputs), module.out_features, bias=module.bias is not None)
        return _filled(module, [(first, inputs), (last, outputs)])
    first = _like(module, inputs.shape[1], len(inputs))
    last = _pointwise(module, len(inputs), len(outputs), bias=module.bias is not None)
    return _filled(module, [(first, inputs), (last, outputs)])


def _tucker_layers(module: nn.Module, parts: tuple[Tensor, ...]) -> Factorized:
    outputs, core, inputs = parts
    made = [
        (_pointwise(module, inputs.shape[1], len(inputs), bias=False), inputs),
        (_like(module, core.shape[1], core.shape[0]), core),
        (_pointwise(module, outputs.shape[1], len(outputs), bias=module.bias is not None), outputs),
    ]
    return _filled(module, made)


def _like(module: Any, into: int, out: int) -> nn.Module:
    """A convolution with the kernel, stride and padding of `module`, without bias."""
    made: nn.Module = _kind(module)(
        into, out, module.kernel_size, stride=module.stride, padding=module.padding,
        dilation=module.dilation, padding_mode=module.padding_mode, bias=False,
    )  # fmt: skip
    return made


def _pointwise(module: Any, into: int, out: int, *, bias: bool) -> nn.Module:
    return _kind(module)(into, out, 1, bias=bias)


def _kind(module: nn.Module) -> Callable[..., nn.Module]:
    return next(kind for kind in CONVOLUTIONS if isinstance(module, kind))


def _filled(module: nn.Module, made: Sequence[tuple[nn.Module, Tensor]]) -> Factorized:
    """The layers with these weights and the module's bias, on its device and of its type."""
    like, bias = module.weight, module.bias
    assert isinstance(like, Tensor)
    with torch.no_grad():
        for layer, weight in made:
            target = layer.to(like.device, like.dtype).get_parameter("weight")
            target.copy_(weight.reshape(target.shape))
            target.requires_grad_(like.requires_grad)
        if isinstance(bias, Tensor):
            made[-1][0].get_parameter("bias").copy_(bias)
    factors = Factorized(*(layer for layer, _ in made))
    flush_subnormals(factors)
    return factors


def _within(budget: int, spectra: Mapping[str, _Spectrum]) -> dict[str, Rank]:
    """Ranks for a budget: from rank 1, always the next where a layer gains most energy per parameter."""
    usable = {name: spectrum for name, spectrum in spectra.items() if not spectrum.reason}
    left = [p for s in spectra.values() if s.reason for p in s.module.parameters()]
    fixed = sum(p.numel() for p in distinct(left))
    ranks = {name: [1] * len(spectrum.values) for name, spectrum in usable.items()}
    spent = fixed + sum(usable[name].size(rank) for name, rank in ranks.items())
    if spent > budget:
        raise InputError(f"budget_parameters={budget:,}: rank 1 everywhere takes {spent:,} already")

    def gain(name: str, side: int) -> tuple[float, str, int] | None:
        rank, values = ranks[name], usable[name].values[side]
        if rank[side] >= len(values):
            return None
        larger = [number + (place == side) for place, number in enumerate(rank)]
        cost = usable[name].size(larger) - usable[name].size(rank)
        return -float(values[rank[side]] ** 2 / values.square().sum().clamp(min=1e-300)) / cost, name, side

    queue = [
        entry
        for name in usable
        for side in range(len(ranks[name]))
        if (entry := gain(name, side)) is not None
    ]
    heapq.heapify(queue)
    while queue:
        _, name, side = heapq.heappop(queue)
        larger = [number + (place == side) for place, number in enumerate(ranks[name])]
        more = usable[name].size(larger) - usable[name].size(ranks[name])
        if usable[name].size(larger) >= usable[name].parameters or spent + more > budget:
            continue
        ranks[name], spent = larger, spent + more
        if (entry := gain(name, side)) is not None:
            heapq.heappush(queue, entry)
    return {name: rank[0] if len(rank) == 1 else (rank[0], rank[1]) for name, rank in ranks.items()}
