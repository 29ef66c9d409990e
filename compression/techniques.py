"""Ready-made techniques for `compression.recipes`, and two recipes that others published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from capacity.cloning import clone, fold_masks, plain_copy
from compression.checkpoints import load_json, load_model, save_json, save_model
from compression.criteria import L1, Criterion
from compression.distillation import DistillationLoss, distill
from compression.factorization import Method, factorize
from compression.feedback import code_with_feedback, prune_with_feedback, round_with_feedback
from compression.feedback.grids import GRID, GridOptions
from compression.options import with_options
from compression.pruning import DEFAULTS, Amount, PruneOptions, prune
from compression.quantization import quantize
from compression.quantization.files import load_quantized, save_quantized
from compression.rates import quantize_rate_distortion
from compression.recipes import Technique
from compression.sharing import share_weights
from compression.shrinking import load_shrunk, save_shrunk, shrink, sort_units
from compression.training import Batches, Retrain, TrainingSettings, model_of


@with_options(DEFAULTS | {"scope": "global"})
def pruning(
    criterion: Criterion | None = None,
    *,
    amount: Amount,
    retrain: Retrain | None = None,
    **options: Unpack[PruneOptions],
) -> Technique:
    """Mask weights or neurons, by magnitude unless told otherwise, then retrain.

    `input_size` helps `prune` to find the output layers, which are left alone.
    """

    def apply(model: nn.Module) -> Any:
        chosen = criterion or L1(center="zero")
        result = prune(model, chosen, amount=amount, **options)
        return result.model if retrain is None else retrain(result.model)

    return Technique("prune", apply)


def shrinking(input_size: Any, *, amount: float | None = None, retrain: Retrain | None = None) -> Technique:
    """Remove channels, those that masks silenced or a share of all, then retrain."""

    def apply(model: nn.Module) -> Any:
        small = shrink(model, input_size, amount=amount).model
        return small if retrain is None else retrain(small)

    def load(before: nn.Module, path: Path) -> nn.Module:
        return load_shrunk(fold_masks(clone(before)), path)

    return Technique("shrink", apply, lambda result, path: save_shrunk(model_of(result), path), load)


def sorting(input_size: Any) -> Technique:
    """Hidden units in order, which the file that is measured after it makes use of."""
    return Technique("sort", lambda model: sort_units(model, input_size).model, load=_load_plain)


def distilling(
    student: nn.Module,
    data: Batches,
    *,
    loss: DistillationLoss | None = None,
    settings: TrainingSettings | None = None,
) -> Technique:
    """Train a student under the model so far, and go on with the student."""
    return Technique(
        "distil",
        lambda teacher: distill(student, teacher, data, loss=loss, settings=settings),
        load=lambda before, path: load_model(clone(student), path, sealed=True),
    )


def sharing(*, bits: int | Mapping[str, int] = 5, retrain: Retrain | None = None) -> Technique:
    """Share values within each tensor, found by k-means, and train them."""
    return Technique(
        "share", lambda model: share_weights(model, bits=bits, retrain=retrain), load=_load_plain
    )


def rounding(
    *,
    penalty: float = 0.02,
    relative_step: float = 0.7,
    retrain: Retrain | None = None,
    settle: int | None = None,
) -> Technique:
    """Round to a grid where error and bits together cost least, and train through it."""
    options: dict[str, Any] = {"penalty": penalty, "relative_step": relative_step, "settle": settle}
    return Technique(
        "round", lambda m: quantize_rate_distortion(m, retrain=retrain, **options), load=_load_plain
    )


def pruning_with_feedback(
    batches: Any, *, amount: Amount | None = None, n_of_m: tuple[int, int] | None = None
) -> Technique:
    """Mask weights and move the others; see `compression.prune_with_feedback`."""
    return Technique(
        "prune with feedback",
        lambda model: prune_with_feedback(model, batches, amount=amount, n_of_m=n_of_m),
        load=_load_plain,
    )


@with_options(GRID)
def rounding_with_feedback(
    batches: Any, *, bits: int | Mapping[str, int] = 4, **grid: Unpack[GridOptions]
) -> Technique:
    """Few bits, errors made good by other weights; see `compression.round_with_feedback`."""
    return Technique(
        "round with feedback",
        lambda model: round_with_feedback(model, batches, bits=bits, **grid),
        load=_load_plain,
    )


def coding_with_feedback(batches: Any, *, penalty: float) -> Technique:
    """The smallest file without retraining; see `compression.code_with_feedback`."""
    return Technique(
        "code with feedback",
        lambda model: code_with_feedback(model, batches, penalty=penalty),
        load=_load_plain,
    )


@dataclass(frozen=True)
class _Factorized:
    model: nn.Module
    ranks: Mapping[str, Any]


def factorizing(*, rank: int | float, method: Method = "svd", retrain: Retrain | None = None) -> Technique:
    """Replace layers by low-rank ones, then retrain."""

    def apply(model: nn.Module) -> _Factorized:
        result = factorize(model, rank=rank, method=method)
        return _Factorized(result.model if retrain is None else model_of(retrain(result.model)), result.ranks)

    def save(result: _Factorized, path: Path) -> None:
        save_model(result.model, path)
        save_json(path.with_suffix(".ranks.json"), result.ranks)

    def load(before: nn.Module, path: Path) -> nn.Module:
        ranks = load_json(path.with_suffix(".ranks.json"))
        known = {name: tuple(r) if isinstance(r, list) else r for name, r in ranks.items()}
        like = factorize(before, rank=known, method=method).model if known else clone(before)
        return load_model(like, path, sealed=True)

    return Technique("factorize", apply, save, load)


def quantizing(
    input_size: Any, *, scheme: Any = "static", weight_bits: Any = 8, group_size: int | None = None,
    calibration: Any = None, retrain: Retrain | None = None,
) -> Technique:  # fmt: skip
    """Quantize to integers; see `compression.quantization.quantize`. The last step of a recipe."""

    def apply(model: nn.Module) -> Any:
        return quantize(
            model, scheme=scheme, input_size=input_size, calibration=calibration, retrain=retrain,
            weight_bits=weight_bits, group_size=group_size,
        )  # fmt: skip

    def load(before: nn.Module, path: Path) -> nn.Module:
        return load_quantized(before, path, input_size=input_size)

    return Technique("quantize", apply, save_quantized, load)


def _load_plain(before: nn.Module, path: Path) -> nn.Module:
    return load_model(plain_copy(before), path, sealed=True)


def prune_share_code(
    *, amount: float = 0.9, bits: int = 5, retrain: Retrain, layers: Sequence[str] | None = None
) -> list[Technique]:
    """Deep Compression: prune, share values; the third stage, coding, is what every `file_bytes` shows.

    Reference: Han et al. 2016, arXiv:1510.00149.
    """
    return [pruning(amount=amount, retrain=retrain, layers=layers), sharing(bits=bits, retrain=retrain)]


def distil_quantize_prune(
    student: nn.Module,
    data: Batches,
    *,
    settings: TrainingSettings | None = None,
    bits: int = 8,
    amount: float = 0.1,
) -> list[Technique]:
    """A report's order: distil into a student, give its weights 2^bits values, prune without retraining."""
    return [
        distilling(student, data, settings=settings),
        sharing(bits=bits),
        pruning(amount=amount),
    ]
