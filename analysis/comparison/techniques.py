"""The techniques of a comparison by name: how each makes its network from one trained baseline."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from analysis.lab.measurement.deployment import CompressedModel, measure_deployment
from analysis.lab.runner import Runner
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.progress import silent
from capacity.cloning import plain_copy
from compression.calibration import ActivationNorm
from compression.criteria import L1
from compression.distillation import DistillationLoss, objective
from compression.factorization import factorize
from compression.feedback import code_with_feedback, prune_with_feedback, round_with_feedback, scale_channels
from compression.pruning import prune
from compression.quantization import quantize
from compression.rates import quantize_rate_distortion
from compression.semistructured import prune_n_of_m
from compression.sharing import share_weights
from compression.shrinking import shrink
from compression.shrinking.silencing import zero_dead_parameters

if TYPE_CHECKING:
    from analysis.comparison.config import Config

GROUP = 32  # weights that share a scale where there are 4 bits


class ComparisonTrials:
    """What all cells of one grid share: the runner, and how to train."""

    def __init__(self, config: "Config") -> None:
        self.config, self.runner = config, Runner(config)
        if "distilled" in config.techniques:
            self.student(0)  # refuses an unknown one before the first training
        self.content = self.runner.content
        self.runner.prepare(RunDirectory(Path()), silent)

    def row(self, folder: Path, seed: int, technique: str) -> dict[str, Any]:
        """The figures of one technique on this seed's baseline, kept in the run folder for all cells."""
        base = self.baseline(folder, seed)
        made = CompressedModel(base, base) if technique == "baseline" else MAKERS[technique](self, base, seed)
        measured = measure_deployment(made, base, self.runner, self.config)
        return {"seed": seed, "technique": technique} | measured

    def baseline(self, folder: Path, seed: int) -> nn.Module:
        """This seed's trained network; trained here where no other cell has left it in the run folder."""
        path = folder / f"seed-{seed}" / "baseline.safetensors"
        return self.runner.trained(seed, path, self.runner.training(seed, self.config.epochs), silent).eval()

    def retrain(self, model: nn.Module, seed: int, rate: float = 1.0) -> nn.Module:
        """As many epochs for every technique that trains."""
        return self.runner.fit(
            model, self.runner.training(seed, self.config.retrain_epochs, rate), silent
        ).model

    def under(self, teacher: nn.Module, student: nn.Module, seed: int) -> nn.Module:
        """A student trained under a teacher for as long as the baseline was."""
        config = self.config
        soft = DistillationLoss(config.temperature, config.alpha)
        loss = objective(teacher, soft, mixed_precision=config.mixed_precision)
        return self.runner.fit(student, self.runner.training(seed, config.epochs), silent, loss).model

    def student(self, seed: int) -> nn.Module:
        """The student asked for, or this network with fewer channels, not trained."""
        config, runner = self.config, self.runner
        if config.student:
            return runner.build(config.student, seed + 1000).to(runner.device)
        return shrink(runner.network(seed + 1000), runner.data.input_size, amount=config.student_amount).model

    def calibration(self) -> Any:
        return self.runner.data.train.take(slice(0, self.config.calibration)).batches(100)


def control(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """The baseline, trained as much longer as the others are retrained."""
    model = shared.retrain(base, seed)
    return CompressedModel(model, model)


def masked(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """The smallest weights of all layers masked, the rest retrained."""
    model = shared.retrain(_sparse(shared, base, shared.config.sparsity), seed)
    return CompressedModel(model, model)


def shrunk(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """Channels removed, the rest retrained."""
    model = shared.retrain(
        shrink(base, shared.runner.data.input_size, amount=shared.config.channels).model, seed
    )
    return CompressedModel(model, model)


def distilled(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """A smaller network, trained anew under the baseline."""
    model = shared.under(base, shared.student(seed), seed)
    return CompressedModel(model, model)


def low_rank(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """Layers as products of smaller ones, retrained."""
    model = shared.retrain(factorize(base, rank=shared.config.energy).model, seed, rate=0.2)
    return CompressedModel(model, model)


def integers(
    shared: ComparisonTrials,
    base: nn.Module,
    seed: int,
    *,
    scheme: Any,
    bits: Any = 8,
    group: int | None = None,
) -> CompressedModel:
    """Integers in place of floats; "aware" is trained with the rounding, others are not."""
    plain = plain_copy(base).cpu()
    result = quantize(
        plain, scheme=scheme, input_size=shared.runner.data.input_size, weight_bits=bits, group_size=group,
        calibration=shared.calibration(), retrain=lambda graph: shared.retrain(graph, seed, rate=0.1),
    )  # fmt: skip
    return CompressedModel(result.model, plain, bits, result)


def deep_compressed(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """Pruned, weights shared in code books, coded (Han et al. 2016); retrained after each."""
    config = shared.config
    sparse = shared.retrain(_sparse(shared, base, config.coded_sparsity), seed)
    model = share_weights(sparse, bits=config.bits, retrain=lambda m: shared.retrain(m, seed, rate=0.4)).model
    return CompressedModel(model, model, config.bits, coded=True)


def rate_coded(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """Pruned, then rounded where error and bits together cost least, coded; retrained after each."""
    sparse = shared.retrain(_sparse(shared, base, shared.config.coded_sparsity), seed)
    living = zero_dead_parameters(sparse, shared.runner.data.input_size)
    model = quantize_rate_distortion(living, retrain=lambda m: shared.retrain(m, seed, rate=0.4)).model
    return CompressedModel(model, model, shared.config.bits, coded=True)


def distil_quantize_prune(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """Report B's order: distil, give each weight one of 2^8 values, prune a tenth without retraining."""
    student = share_weights(shared.under(base, shared.student(seed), seed), bits=8).model
    model = prune(student, L1(center="zero"), amount=0.1, scope="global").model
    return CompressedModel(model, model, 8, coded=True)


def masked_int8(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """The smallest weights masked, the rest retrained, then static int8."""
    return integers(shared, masked(shared, base, seed).model, seed, scheme="static")


def prune_shrink_int8(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """Channels removed, retrained, then static int8."""
    return integers(shared, shrunk(shared, base, seed).model, seed, scheme="static")


def magnitude(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """The smallest weights of each layer masked; nothing retrained."""
    model = prune(base, L1("zero"), amount=shared.config.sparsity, layers=shared.runner.layers).model
    return CompressedModel(model, model)


def wanda(shared: ComparisonTrials, base: nn.Module, seed: int, *, by_row: bool = True) -> CompressedModel:
    """A share of each layer's weights masked by Wanda, within rows as its paper or not; nothing retrained."""
    criterion = ActivationNorm(shared.calibration(), by_row=by_row)
    model = prune(base, criterion, amount=shared.config.sparsity, layers=shared.runner.layers).model
    return CompressedModel(model, model)


def two_of_four(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """Two of every four neighbouring weights masked by Wanda; nothing retrained."""
    criterion = ActivationNorm(shared.calibration())
    model = prune_n_of_m(base, criterion, layers=shared.runner.layers).model
    return CompressedModel(model, model)


def pruned_with_feedback(
    shared: ComparisonTrials, base: nn.Module, seed: int, *, n_of_m: tuple[int, int] | None = None
) -> CompressedModel:
    """Weights masked and the others moved (SparseGPT); nothing retrained."""
    amount = None if n_of_m else shared.config.sparsity
    batches, layers = shared.calibration(), shared.runner.layers
    model = prune_with_feedback(base, batches, amount=amount, n_of_m=n_of_m, layers=layers).model
    return CompressedModel(model, model)


def feedback_int4(
    shared: ComparisonTrials, base: nn.Module, seed: int, *, scaled: bool = False
) -> CompressedModel:
    """Integers of 4 bits in groups of 32, errors made good (GPTQ), channels scaled before if asked (AWQ)."""
    batches = shared.calibration()
    ready = scale_channels(base, batches, bits=4, group_size=GROUP).model if scaled else base
    moved = round_with_feedback(ready, batches, bits=4, group_size=GROUP).model
    return integers(shared, moved, seed, scheme="weight-only", bits=4, group=GROUP)


def feedback_coded(shared: ComparisonTrials, base: nn.Module, seed: int) -> CompressedModel:
    """Multiples of a step where error and bits cost least, coded (CERWU); nothing retrained."""
    model = code_with_feedback(base, shared.calibration(), penalty=shared.config.penalty).model
    return CompressedModel(model, model, shared.config.bits, coded=True)


def _sparse(shared: ComparisonTrials, base: nn.Module, amount: float) -> nn.Module:
    return prune(base, L1(center="zero"), amount=amount, scope="global", layers=shared.runner.weighted).model


Maker = Callable[[ComparisonTrials, nn.Module, int], CompressedModel]
MAKERS: dict[str, Maker] = {
    "control": control,
    "masked": masked,
    "shrunk": shrunk,
    "distilled": distilled,
    "low-rank": low_rank,
    "dynamic-int8": partial(integers, scheme="dynamic"),
    "static-int8": partial(integers, scheme="static"),
    "grouped-int4": partial(integers, scheme="weight-only", bits=4, group=GROUP),
    "aware-int4": partial(integers, scheme="aware", bits=4),
    "masked-int8": masked_int8,
    "deep-compressed": deep_compressed,
    "rate-coded": rate_coded,
    "distil-quantize-prune": distil_quantize_prune,
    "prune-shrink-int8": prune_shrink_int8,
    "magnitude": magnitude,
    "wanda": wanda,
    "wanda-by-layer": partial(wanda, by_row=False),
    "feedback-pruned": pruned_with_feedback,
    "wanda-2-of-4": two_of_four,
    "feedback-2-of-4": partial(pruned_with_feedback, n_of_m=(2, 4)),
    "feedback-int4": feedback_int4,
    "scaled-int4": partial(feedback_int4, scaled=True),
    "feedback-coded": feedback_coded,
}


@lru_cache(maxsize=1)
def contenders(config: "Config") -> ComparisonTrials:
    """One data set in the memory of each worker."""
    return ComparisonTrials(config)


def compute(setting: "tuple[Config, str]", name: str) -> dict[str, Any]:
    """One cell of the grid, named seed-SEED/TECHNIQUE."""
    config, folder = setting
    seed, _, technique = name.removeprefix("seed-").partition("/")
    return contenders(config).row(Path(folder), int(seed), technique)
