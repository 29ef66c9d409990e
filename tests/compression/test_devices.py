"""On a GPU every public function gives what it gives on the processor, and leaves the model where it lay.

Run with DEEPCAPACITY_GPU=1, without which tests see no GPU; skipped where there is none.
"""

import os
from collections.abc import Callable, Iterator
from math import isclose, isnan
from pathlib import Path
from traceback import extract_tb
from typing import Any

import pytest
import torch
from kinds import DATA, KINDS, ONCE, SIZE, build
from outcomes import numbers, outputs_of
from torch import nn
from uses import FUNCTIONS, SLOW, stored

from capacity import InputError, measure, requirement
from capacity.live import live_masks
from compression.batches import TensorBatches
from compression.calibration import ActivationNorm, Fisher, GaussNewton, Taylor
from compression.costs import latency
from compression.criteria import L1
from compression.distillation import TeacherEnsemble, distill
from compression.ensembles import fit_together
from compression.evaluation import evaluate
from compression.factorization import factorize
from compression.features import FeatureLoss
from compression.feedback import scale_channels
from compression.pruning import prune
from compression.quantization import export_onnx, load_quantized, quantize, save_quantized
from compression.schedules import GradualPruning
from compression.shrinking import shrink
from compression.training import TrainingSettings, fit

KNOWN = (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available))
GPU = next((name for name, there in KNOWN if "DEEPCAPACITY_GPU" in os.environ and there()), "")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not GPU, reason="there is no GPU here"),
]

ELSEWHERE = ("sharing memory", "DataParallel")  # apart once moved; refuses a processor where there is a GPU
DRAWING = ("dropout", "transformer")  # a GPU draws other numbers for dropout than a processor
OF_A_MACHINE = ("latency", "recipe", "peak_memory_bytes")
COARSE = ("half", "bfloat16")


MORE: dict[str, Callable[[nn.Module], Any]] = {
    "Taylor": lambda m: prune(m, Taylor(DATA), amount=0.5),
    "Fisher": lambda m: prune(m, Fisher(DATA), amount=0.5),
    "GaussNewton": lambda m: prune(m, GaussNewton(DATA), amount=0.5),
    "ActivationNorm": lambda m: prune(m, ActivationNorm(DATA), amount=0.5),
    "GradualPruning": lambda m: fit(
        m, DATA, settings=TrainingSettings(epochs=2, gradual=GradualPruning(L1(), 0.5, end_epoch=1))
    ),
    "teachers": lambda m: distill(build("dense"), [m, build("conv2d")], DATA, settings=ONCE),
    "a cached teacher": lambda m: stored(
        m, lambda path: distill(build("dense"), m, DATA, settings=ONCE, cache=f"{path}.npy")
    ),
    "weighted teachers": lambda m: distill(m, TeacherEnsemble([build("dense"), m], weights=[3, 1]), DATA),
    "hints": lambda m: distill(
        build("dense"), m, DATA, settings=ONCE, features=FeatureLoss({"part": "part"}, kind="hint")
    ),
    "similarity": lambda m: distill(
        m, build("dense"), DATA, settings=ONCE, features=FeatureLoss({"part": "part"}, kind="similarity")
    ),
    "integers stored": lambda m: stored(
        m,
        lambda path: (
            save_quantized(quantize(m, scheme="dynamic", input_size=SIZE), path),
            load_quantized(path, m, input_size=SIZE),
        ),
    ),
}  # fmt: skip


def outcome(work: Callable[[nn.Module], Any], kind: str, device: str) -> tuple[str, list[tuple[str, float]]]:
    """How a function ends for a model on a device: its numbers, or that it refuses."""
    model = build(kind)
    if kind == "lazy":
        return "refused", []
    model.to(device)
    try:
        result = work(model)
    except InputError as error:
        return f"refused: {error}", []
    places = {p.device.type for p in model.parameters()}
    assert places == {device}, f"the caller's model was moved to {places}"
    return "done", list(numbers(result))


def differences(function: str, kind: str) -> Iterator[str]:
    """What a function says otherwise on the GPU than on the processor."""
    try:
        (way, on_gpu), (expected, on_cpu) = (
            outcome((FUNCTIONS | MORE)[function], kind, device) for device in (GPU, "cpu")
        )
    except Exception as error:
        places = [frame for frame in extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
        where = f"{Path(places[-1].filename).name}:{places[-1].lineno}"
        yield f"{kind}: {type(error).__name__} at {where}: {str(error)[:300]}"
        return
    if way[:7] != expected[:7]:
        yield f"{kind}: {way[:300]} on the GPU, {expected[:300]} on the processor"
    if kind in DRAWING or function in OF_A_MACHINE:
        return
    tolerance = 0.05 if kind in COARSE else 0.01
    if [place for place, _ in on_gpu] != [place for place, _ in on_cpu]:
        yield f"{kind}: other results: {sorted({p for p, _ in on_gpu} ^ {p for p, _ in on_cpu})[:5]}"
        return
    for (place, ours), (_, theirs) in zip(on_gpu, on_cpu, strict=True):
        near = isclose(ours, theirs, rel_tol=tolerance, abs_tol=max(2e-3, tolerance / 5))
        if not near and not (isnan(ours) and isnan(theirs)):
            yield f"{kind}: {place} is {ours:g} on the GPU, {theirs:g} on the processor"
            return


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_gives_on_a_gpu_what_it_gives_on_the_processor(function: str) -> None:
    lines = [
        line
        for kind in SLOW.get(function, KINDS)
        if kind not in ELSEWHERE
        for line in differences(function, kind)
    ]
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("function", MORE)
def test_what_sees_data_does_on_a_gpu_what_it_does_on_the_processor(function: str) -> None:
    lines = [line for kind in ("dense", "masked", "weight norm") for line in differences(function, kind)]
    assert not lines, "\n".join(lines)


def test_rows_on_a_gpu_require_as_many_bits() -> None:
    x = torch.randn(64, 4)
    y = (x[:, 0] > 0).long()
    assert requirement(x.to(GPU), y.to(GPU)) == requirement(x, y)


def wide() -> nn.Module:
    """Products of some thousand terms, which TensorFloat-32 rounds by more than comparisons allow."""
    return nn.Sequential(
        nn.Conv2d(3, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(),
        nn.Conv2d(128, 64, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


WIDE: dict[str, Callable[[nn.Module], Any]] = {
    "shrink": lambda m: [n.after for n in shrink(m, (3, 16, 16), amount=0.3).layers],
    "factorize": lambda m: [n.rank for n in factorize(m, rank=8).layers],
    "measure": lambda m: [measure(m, (3, 16, 16), effective=True).capacity_bits],
    "scale": lambda m: [len(scale_channels(m, [torch.randn(8, 3, 16, 16)]).groups)],
}


@pytest.mark.parametrize("work", WIDE)
def test_wide_convolutions_on_a_gpu_pass_the_same_comparisons(work: str) -> None:
    torch.manual_seed(0)
    model = wide()
    expected = WIDE[work](model)
    assert WIDE[work](model.to(GPU)) == expected and any(expected)


def test_what_is_dead_on_the_processor_is_dead_on_a_gpu() -> None:
    """Two units that nothing reads, one of them behind a clamp that real passes are needed for."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Hardtanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[2].weight[:, :2] = 0
        model[4].weight[:, 3] = 0
    expected = live_masks(model, (6,))
    seen = live_masks(model.to(GPU), (6,))
    assert all(torch.equal(seen[name].cpu(), mask) for name, mask in expected.items())
    assert not expected["0.weight"][:2].any() and not expected["2.weight"][3].any()


def test_a_network_on_a_gpu_is_exported(tmp_path: Path) -> None:
    model = build("conv2d").to(GPU)
    assert export_onnx(model, tmp_path / "net.onnx", input_size=SIZE) > 0
    graph = quantize(
        model, scheme="aware", input_size=SIZE, calibration=DATA,
        retrain=lambda graph: fit(graph, DATA, settings=ONCE),
    )  # fmt: skip
    assert export_onnx(graph.model, tmp_path / "integers.onnx", input_size=SIZE) > 0
    assert {p.device.type for p in model.parameters()} == {GPU}


@pytest.mark.parametrize("scheme", ["dynamic", "weight-only", "static"])
@pytest.mark.parametrize("kind", ["dense", "batch norm", "masked", "transformer"])
def test_a_model_on_a_gpu_is_quantized_as_one_on_the_processor(scheme: str, kind: str) -> None:
    made = []
    for device in (GPU, "cpu"):
        model = build(kind).to(device)
        made.append(quantize(model, scheme=scheme, input_size=SIZE, calibration=DATA).model)
    (ours,), (theirs,) = map(outputs_of, made)
    assert torch.allclose(ours.cpu(), theirs, atol=0.05)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training_on_a_gpu_learns_what_it_learns_on_the_processor(precision: str) -> None:
    """Two clouds of points, which a network of eight units tells apart."""
    x = torch.randn(512, 16)
    data = TensorBatches(x, (x[:, 0] * x[:, 1] > 0).long(), batch_size=32, shuffle=True)
    settings = TrainingSettings(epochs=20, learning_rate=0.1, mixed_precision=precision)
    trained = fit(build("dense").to(GPU), data, settings=settings).model
    assert {p.device.type for p in trained.parameters()} == {GPU}
    assert evaluate(trained, data).top1_error < 0.1
    alone = fit(build("dense"), data, settings=settings).model
    together = fit_together([build("dense")] * 2, [data] * 2, settings=settings)
    for model in (alone, *(one.model for one in together)):
        assert evaluate(model, data).top1_error < 0.1


def test_the_times_of_a_gpu_are_those_of_its_work() -> None:
    """A product of large matrices takes longer than one of small ones, though both are asked for at once."""
    small, large = nn.Linear(64, 64).to(GPU), nn.Linear(8192, 8192).to(GPU)
    times = [latency(model, (model.in_features,), batch_size=4096, repeats=10) for model in (small, large)]
    assert times[1].median_ms > 5 * times[0].median_ms
