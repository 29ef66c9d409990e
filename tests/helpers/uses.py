"""Every public function that takes a model, as a user calls it on one of `kinds`."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kinds import DATA, ONCE, SIZE, dense
from torch import Tensor, nn

from capacity import bounds, measure
from capacity.cloning import clone
from capacity.live import live_masks
from compression.batches import TensorBatches
from compression.budgets import Budget, prune_to_budget
from compression.certifying import certify
from compression.checkpoints import fingerprint, load_model, save_model
from compression.codec import coding_report, decode, encode
from compression.costs import flops, latency, peak_memory_bytes
from compression.criteria import L1
from compression.describing import description_length
from compression.distillation import distill
from compression.ensembles import fit_together
from compression.evaluation import evaluate, predictions
from compression.factorization import factorize
from compression.feedback import (
    allocate_bits,
    code_to_budget,
    code_with_feedback,
    prune_with_feedback,
    round_with_feedback,
    scale_channels,
)
from compression.masks import from_torch_pruning, to_torch_pruning
from compression.pruning import prune
from compression.quantization.sqnr import signal_to_noise_db
from compression.rates import quantize_rate_distortion
from compression.recipes import recipe
from compression.schedules import rewind
from compression.semistructured import prune_n_of_m
from compression.sensitivity import sensitivity
from compression.sharing import share_weights
from compression.shrinking import load_shrunk, save_shrunk, shrink, sort_units
from compression.shrinking.silencing import mask_dead_norm_channels, zero_dead_parameters
from compression.squeezing import squeeze
from compression.techniques import pruning
from compression.training import TrainingSettings, fit


def once(model: nn.Module) -> nn.Module:
    return fit(model, data_of(model), settings=ONCE).model


def data_of(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return [(x.to(dtype), y) for x, y in DATA]


@torch.random.fork_rng()
def other(model: nn.Module) -> nn.Module:
    return dense().to(data_of(model)[0][0].dtype)


def scored(model: nn.Module) -> dict[str, float]:
    return {"error": evaluate(model, data_of(model)).top1_error}


def stored(model: nn.Module, work: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return work(Path(folder) / "stored")


FUNCTIONS: dict[str, Callable[[nn.Module], Any]] = {
    "bounds": lambda m: bounds(m, SIZE),
    "measure": lambda m: measure(m, SIZE),
    "measure trainable": lambda m: measure(m, SIZE, scope="trainable"),
    "measure effective": lambda m: measure(m, SIZE, effective=True),
    "live_masks": lambda m: live_masks(m, SIZE),
    "prune weights": lambda m: prune(m, L1(), amount=0.5),
    "prune_n_of_m": lambda m: prune_n_of_m(m, L1()),
    "round_with_feedback": lambda m: round_with_feedback(m, data_of(m)),
    "scale_channels": lambda m: scale_channels(m, data_of(m)),
    "allocate_bits": lambda m: allocate_bits(m, data_of(m), average_bits=99.0, choices=(2, 8)),
    "code_to_budget": lambda m: code_to_budget(m, data_of(m), budget_bytes=10**6),
    "code_with_feedback": lambda m: code_with_feedback(m, data_of(m), penalty=1e-4),
    "prune_with_feedback": lambda m: prune_with_feedback(m, data_of(m), amount=0.5),
    "prune neurons": lambda m: prune(m, L1(), amount=1, unit="neuron", scope="global"),
    "prune_to_budget": lambda m: prune_to_budget(
        m, L1(), input_size=SIZE, budget=Budget("parameters", at_most=measure(m, SIZE).parameters * 0.8)
    ),
    "sensitivity": lambda m: sensitivity(m, L1(), evaluate=lambda k: scored(k)["error"], amounts=(0.5,)),
    "rewind": lambda m: rewind(m, m),
    "from and to torch's pruning": lambda m: to_torch_pruning(from_torch_pruning(m)),
    "shrink": lambda m: shrink(m, SIZE, amount=0.5),
    "sort_units": lambda m: sort_units(m, SIZE),
    "mask_dead_norm_channels": lambda m: mask_dead_norm_channels(m, SIZE),
    "zero_dead_parameters": lambda m: zero_dead_parameters(m, SIZE),
    "factorize": lambda m: factorize(m, rank=1),
    "share": lambda m: share_weights(m, bits=2),
    "share and train": lambda m: share_weights(m, bits=2, retrain=once),
    "quantize_rate_distortion": lambda m: quantize_rate_distortion(m, retrain=once),
    "encode and decode": lambda m: stored(m, lambda path: (encode(m, path), decode(path, m))),
    "certify and description_length": lambda m: stored(
        m,
        lambda path: (encode(m, path), certify(path, m, data_of(m)), description_length(path, m, data_of(m))),
    ),
    "coding_report": coding_report,
    "signal_to_noise_db": lambda m: signal_to_noise_db(m, data=data_of(m)),
    "flops": lambda m: flops(m, SIZE),
    "latency": lambda m: latency(m, SIZE, repeats=1),
    "peak_memory_bytes": lambda m: peak_memory_bytes(m, SIZE),
    "fit": once,
    "fit neuron dropout": lambda m: fit(
        m, data_of(m), settings=TrainingSettings(epochs=1, neuron_dropout={"part": 1})
    ),
    "distill": lambda m: distill(other(m), m, data_of(m), settings=ONCE),
    "distill into": lambda m: distill(m, other(m), data_of(m), settings=ONCE),
    "evaluate": scored,
    "predictions": lambda m: predictions(m, data_of(m)),
    "squeeze": lambda m: stored(
        m,
        lambda path: list(
            squeeze(m, L1(), amount=0.3, iterations=1, retrain=once, evaluate=scored, directory=path)
        ),
    ),
    "recipe": lambda m: recipe(m, [pruning(amount=0.5)], input_size=SIZE, evaluate=scored, repeats=1),
    "save_model and load_model": lambda m: stored(
        m, lambda path: (save_model(m, path), load_model(clone(m), path))
    ),
    "save_shrunk and load_shrunk": lambda m: stored(
        m, lambda path: (save_shrunk(m, path), load_shrunk(m, path, input_size=SIZE))
    ),
    "fit_together": lambda m: fit_together(
        [m, m], [TensorBatches(*data_of(m)[0], batch_size=8)] * 2, settings=ONCE
    ),
    "fingerprint": fingerprint,
}
ELSEWHERE = {
    "quantize": "a test of its own below, of fewer kinds, as each takes seconds",
    "load_quantized": "takes the model as the plan of a quantized file",
    "export_onnx": "takes what quantize made",
    "memorization": "makes its models itself",
    "prequential_length": "is given models that were made for it",
}
FEW = ("dense", "weight norm", "masked", "closures")  # for functions that measure again and again
SLOW = {"bounds": FEW, "code_to_budget": FEW, "prune_to_budget": FEW[:2]}
