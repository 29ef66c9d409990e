"""Make a network smaller, and know exactly what that cost.

`from compression import prune, L1` works for every name below; each is loaded when first asked for, so
that `import compression` itself loads no torch. Other names are in the modules.

Make smaller (a new model comes back, yours is never changed)
    prune           mask weights or neurons by a criterion
    prune_to_budget mask as much as a budget asks for
    prune_n_of_m    keep 2 of every 4 weights, as sparse tensor cores read them
    prune_with_feedback     mask weights, and move the others so that each layer's output stays near
    shrink          really remove channels
    sort_units      hidden units in order, which makes files of pruned networks smaller
    squeeze         prune, retrain, evaluate, again and again; resumable
    quantize        integers of 8 or 4 bits
    round_with_feedback     2 to 8 bits without retraining, for `quantize` to store
    allocate_bits           how many each layer gets, within a budget
    scale_channels          the same function, whose weights err less when they are rounded
    factorize       low rank
    share_weights   few distinct values in each tensor
    quantize_rate_distortion    round where error and bits together cost least
    code_with_feedback          so, without retraining: errors made good by other weights
    code_to_budget              that, as large as so many bytes allow
    distill         train a student under its teacher, or several (TeacherEnsemble)
    recipe          several techniques one after another, each step measured

Criteria, schedules and stopping
    L1, L2, EnergyPerBit, GeometricMedian, PerBit, Random, Reservoir    what goes first
    Taylor, Fisher, GaussNewton, ActivationNorm, BatchNormScale         and what data say of it
    Calibration     the batches that layers are compressed by, and how
    GradualPruning  prune while training
    rewind          the weights of an earlier epoch under the masks of now
    Budget          how many parameters, FLOPs, bits or milliseconds may be left
    Knee, Peak, McNemarStop     when `squeeze` stops

Train and measure
    fit, TrainingSettings       train, and its settings
    fit_together                train many small networks at once
    TensorBatches, CropAndFlip  batches from tensors in memory, and random variants of them
    DistillationLoss            what a student learns from its teacher
    FeatureLoss                 and what layers of both put out
    evaluate, Evaluation        accuracy, loss and confusion
    mcnemar                     whether two models really differ
    flops, latency, peak_memory_bytes   what a prediction costs

Files
    encode, decode              the smallest file, and back
    coding_report               bits of that file, tensor by tensor
    encode_checkpoint, decode_checkpoint, open_checkpoint   folders of weights, without loss
    certify                     the error on new data that it guarantees
    description_length, prequential_length      bits that tell the labels: which share is learned
    save_model, load_model      weights and masks as safetensors
    save_shrunk, load_shrunk    a network that lost channels
    save_quantized, load_quantized, export_onnx     a network of integers

Python 3.14 and later have a standard-library package of the same name (PEP 784). There this package holds its
modules too (`compression.zstd` and the others), whichever of the two is found first.
"""

import os
import sys
from typing import TYPE_CHECKING

from compression._moved import RENAMED, renamed

if TYPE_CHECKING:
    from compression.batches import CropAndFlip, TensorBatches
    from compression.budgets import Budget, prune_to_budget
    from compression.calibration import ActivationNorm, BatchNormScale, Fisher, GaussNewton, Taylor
    from compression.certifying import certify
    from compression.checkpoints import load_model, save_model
    from compression.codec import (
        coding_report,
        decode,
        decode_checkpoint,
        encode,
        encode_checkpoint,
        open_checkpoint,
    )
    from compression.costs import flops, latency, peak_memory_bytes
    from compression.criteria import L1, L2, EnergyPerBit, GeometricMedian, PerBit, Random, Reservoir
    from compression.describing import description_length, prequential_length
    from compression.distillation import DistillationLoss, distill
    from compression.ensembles import fit_together
    from compression.evaluation import Evaluation, evaluate, mcnemar
    from compression.factorization import factorize
    from compression.features import FeatureLoss
    from compression.feedback import (
        Calibration,
        allocate_bits,
        code_to_budget,
        code_with_feedback,
        prune_with_feedback,
        round_with_feedback,
        scale_channels,
    )
    from compression.pruning import prune
    from compression.quantization import export_onnx, load_quantized, quantize, save_quantized
    from compression.rates import quantize_rate_distortion
    from compression.recipes import recipe
    from compression.schedules import GradualPruning, rewind
    from compression.semistructured import prune_n_of_m
    from compression.sharing import share_weights
    from compression.shrinking import load_shrunk, save_shrunk, shrink, sort_units
    from compression.squeezing import squeeze
    from compression.stopping import Knee, McNemarStop, Peak
    from compression.teacher_ensembles import TeacherEnsemble
    from compression.training import TrainingSettings, fit

__all__ = [
    "L1",
    "L2",
    "ActivationNorm",
    "BatchNormScale",
    "Budget",
    "Calibration",
    "CropAndFlip",
    "DistillationLoss",
    "EnergyPerBit",
    "Evaluation",
    "FeatureLoss",
    "Fisher",
    "GaussNewton",
    "GeometricMedian",
    "GradualPruning",
    "Knee",
    "McNemarStop",
    "Peak",
    "PerBit",
    "Random",
    "Reservoir",
    "Taylor",
    "TeacherEnsemble",
    "TensorBatches",
    "TrainingSettings",
    "allocate_bits",
    "certify",
    "code_to_budget",
    "code_with_feedback",
    "coding_report",
    "decode",
    "decode_checkpoint",
    "description_length",
    "distill",
    "encode",
    "encode_checkpoint",
    "evaluate",
    "export_onnx",
    "factorize",
    "fit",
    "fit_together",
    "flops",
    "latency",
    "load_model",
    "load_quantized",
    "load_shrunk",
    "mcnemar",
    "open_checkpoint",
    "peak_memory_bytes",
    "prequential_length",
    "prune",
    "prune_n_of_m",
    "prune_to_budget",
    "prune_with_feedback",
    "quantize",
    "quantize_rate_distortion",
    "recipe",
    "rewind",
    "round_with_feedback",
    "save_model",
    "save_quantized",
    "save_shrunk",
    "scale_channels",
    "share_weights",
    "shrink",
    "sort_units",
    "squeeze",
]

_NAMES = {
    "batches": "CropAndFlip TensorBatches",
    "budgets": "Budget prune_to_budget",
    "calibration": "ActivationNorm BatchNormScale Fisher GaussNewton Taylor",
    "certifying": "certify",
    "checkpoints": "load_model save_model",
    "codec": "coding_report decode decode_checkpoint encode encode_checkpoint open_checkpoint",
    "costs": "flops latency peak_memory_bytes",
    "criteria": "L1 L2 EnergyPerBit GeometricMedian PerBit Random Reservoir",
    "describing": "description_length prequential_length",
    "distillation": "DistillationLoss distill",
    "ensembles": "fit_together",
    "evaluation": "Evaluation evaluate mcnemar",
    "factorization": "factorize",
    "features": "FeatureLoss",
    "feedback": "Calibration allocate_bits code_to_budget code_with_feedback prune_with_feedback "
    "round_with_feedback scale_channels",
    "pruning": "prune",
    "quantization": "export_onnx load_quantized quantize save_quantized",
    "rates": "quantize_rate_distortion",
    "recipes": "recipe",
    "schedules": "GradualPruning rewind",
    "semistructured": "prune_n_of_m",
    "sharing": "share_weights",
    "shrinking": "load_shrunk save_shrunk shrink sort_units",
    "squeezing": "squeeze",
    "stopping": "Knee McNemarStop Peak",
    "teacher_ensembles": "TeacherEnsemble",
    "training": "TrainingSettings fit",
}

if not TYPE_CHECKING:  # checkers know the names from the imports above, and report any other
    _HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
    _OLD = {old: today for names in RENAMED.values() for old, today in names.items() if today in _HOMES}

    def __getattr__(name: str) -> object:
        """Load one of the names above, or what had another name before."""
        if name in _OLD:
            return renamed(__name__, name, _OLD[name])
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return globals().setdefault(name, getattr(import_module(f"{__name__}.{_HOMES[name]}"), name))

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})


if sys.version_info >= (3, 14):
    _standard = os.path.join(os.path.dirname(os.__file__), "compression")
    if _standard not in __path__:
        __path__.append(_standard)
