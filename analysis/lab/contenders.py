"""The techniques of a comparison by name: how each makes its network from one trained baseline."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from analysis.lab.bench import Bench
from analysis.lab.metrics import Contender, figures
from analysis.lab.models import create
from analysis.lab.progress import silent
from analysis.lab.records import RunFolder
from capacity.cloning import plain_copy
from compression.criteria import L1
from compression.distillation import DistillationLoss, objective
from compression.factorization import factorize
from compression.pruning import prune
from compression.quantization import quantize
from compression.rates import round_by_rate
from compression.sharing import share
from compression.shrinking import shrink
from compression.silencing import silence_dead

if TYPE_CHECKING:
    from analysis.comparison import Config


class Contenders:
    """What all cells of one grid share: the bench, and how to train."""

    def __init__(self, config: "Config") -> None:
        self.config, self.bench = config, Bench(config)
        if "distilled" in config.techniques:
            self.student(0)  # refuses an unknown one before the first training
        self.bench.prepare(RunFolder(Path()), silent)

    def row(self, folder: Path, seed: int, technique: str) -> dict[str, Any]:
        """The figures of one technique on this seed's baseline, kept in the run folder for all cells."""
        base = self.baseline(folder, seed)
        made = Contender(base, base) if technique == "baseline" else MAKERS[technique](self, base, seed)
        measured = figures(
            made, base, self.bench, repeats=self.config.repeats, compile_integers=self.config.compile
        )
        return {"seed": seed, "technique": technique} | measured

    def baseline(self, folder: Path, seed: int) -> nn.Module:
        """This seed's trained network; trained here where no other cell has left it in the run folder."""
        path = folder / f"seed-{seed}" / "baseline.safetensors"
        return self.bench.trained(seed, path, self.bench.training(seed, self.config.epochs), silent).eval()

    def retrain(self, model: nn.Module, seed: int, rate: float = 1.0) -> nn.Module:
        """As many epochs for every technique that trains."""
        return self.bench.fit(
            model, self.bench.training(seed, self.config.retrain_epochs, rate), silent
        ).model

    def under(self, teacher: nn.Module, student: nn.Module, seed: int) -> nn.Module:
        """A student trained under a teacher for as long as the baseline was."""
        config = self.config
        soft = DistillationLoss(config.temperature, config.alpha)
        loss = objective(teacher, soft, mixed_precision=config.mixed_precision)
        return self.bench.fit(student, self.bench.training(seed, config.epochs), silent, loss).model

    def student(self, seed: int) -> nn.Module:
        """The student asked for, or this network with fewer channels, not trained."""
        config, bench = self.config, self.bench
        if config.student:
            size, classes = bench.picture_size, len(bench.data.classes)
            return create(config.student, input_size=size, classes=classes).to(bench.device)
        return shrink(bench.network(seed + 1000), bench.data.input_size, amount=config.student_amount).model

    def calibration(self) -> Any:
        return self.bench.data.train.take(slice(0, self.config.calibration)).batches(100)


def control(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """The baseline, trained as much longer as the others are retrained."""
    found = home.retrain(base, seed)
    return Contender(found, found)


def masked(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """The smallest weights of all layers masked, the rest retrained."""
    found = home.retrain(_sparse(home, base, home.config.sparsity), seed)
    return Contender(found, found)


def shrunk(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """Channels removed, the rest retrained."""
    found = home.retrain(shrink(base, home.bench.data.input_size, amount=home.config.channels).model, seed)
    return Contender(found, found)


def distilled(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """A smaller network, trained anew under the baseline."""
    found = home.under(base, home.student(seed), seed)
    return Contender(found, found)


def low_rank(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """Layers as products of smaller ones, retrained."""
    found = home.retrain(factorize(base, rank=home.config.energy).model, seed, rate=0.2)
    return Contender(found, found)


def integers(
    home: Contenders, base: nn.Module, seed: int, *, scheme: Any, bits: Any = 8, group: int | None = None
) -> Contender:
    """Integers in place of floats; "aware" is trained with the rounding, others are not."""
    plain = plain_copy(base).cpu()
    result = quantize(
        plain, scheme=scheme, input_size=home.bench.data.input_size, weight_bits=bits, group_size=group,
        calibration=home.calibration(), retrain=lambda graph: home.retrain(graph, seed, rate=0.1),
    )  # fmt: skip
    return Contender(result.model, plain, bits, result)


def deep_compressed(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """Pruned, weights shared in code books, coded (Han et al. 2016); retrained after each."""
    config = home.config
    sparse = home.retrain(_sparse(home, base, config.coded_sparsity), seed)
    found = share(sparse, bits=config.bits, retrain=lambda m: home.retrain(m, seed, rate=0.4)).model
    return Contender(found, found, config.bits, coded=True)


def rate_coded(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """Pruned, then rounded where error and bits together cost least, coded; retrained after each."""
    sparse = home.retrain(_sparse(home, base, home.config.coded_sparsity), seed)
    living = silence_dead(sparse, home.bench.data.input_size)
    found = round_by_rate(living, retrain=lambda m: home.retrain(m, seed, rate=0.4)).model
    return Contender(found, found, home.config.bits, coded=True)


def distil_quantize_prune(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """Report B's order: distil, give each weight one of 2^8 values, prune a tenth without retraining."""
    student = share(home.under(base, home.student(seed), seed), bits=8).model
    found = prune(student, L1(center="zero"), amount=0.1, scope="global").model
    return Contender(found, found, 8, coded=True)


def masked_int8(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """The smallest weights masked, the rest retrained, then static int8."""
    return integers(home, masked(home, base, seed).model, seed, scheme="static")


def prune_shrink_int8(home: Contenders, base: nn.Module, seed: int) -> Contender:
    """Channels removed, retrained, then static int8."""
    return integers(home, shrunk(home, base, seed).model, seed, scheme="static")


def _sparse(home: Contenders, base: nn.Module, amount: float) -> nn.Module:
    return prune(base, L1(center="zero"), amount=amount, scope="global", layers=home.bench.weighted).model


Maker = Callable[[Contenders, nn.Module, int], Contender]
MAKERS: dict[str, Maker] = {
    "control": control,
    "masked": masked,
    "shrunk": shrunk,
    "distilled": distilled,
    "low-rank": low_rank,
    "dynamic-int8": partial(integers, scheme="dynamic"),
    "static-int8": partial(integers, scheme="static"),
    "grouped-int4": partial(integers, scheme="weight-only", bits=4, group=32),
    "aware-int4": partial(integers, scheme="aware", bits=4),
    "masked-int8": masked_int8,
    "deep-compressed": deep_compressed,
    "rate-coded": rate_coded,
    "distil-quantize-prune": distil_quantize_prune,
    "prune-shrink-int8": prune_shrink_int8,
}


@lru_cache(maxsize=1)
def contenders(config: "Config") -> Contenders:
    """One data set in the memory of each worker."""
    return Contenders(config)


def compute(setting: "tuple[Config, str]", name: str) -> dict[str, Any]:
    """One cell of the grid, named seed-SEED/TECHNIQUE."""
    config, folder = setting
    seed, _, technique = name.removeprefix("seed-").partition("/")
    return contenders(config).row(Path(folder), int(seed), technique)
