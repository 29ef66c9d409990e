"""Files of networks as they were trained, without retraining: ours and NNCodec's, at equal error.

A tenth of the training data is held out. Beside each NNCodec file stands the smallest of ours whose network
errs no more there; both are then scored on the test split.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.speed.config import Config
from analysis.speed.peers import has_nncodec, nncodec_bytes, read
from analysis.speed.timing import Benchmark, say
from capacity.columns import percent
from capacity.seeding import seed_generators

if TYPE_CHECKING:
    from torch import nn

    from analysis.lab.data.splits import DataSet, Split

STEPS = (
    -30,
    -26,
    -24,
    -22,
    -20,
    -18,
)  # NNCodec's quantization parameter; -38 is its default, for no visible loss
PENALTIES = (
    *(1e-13, 3e-13, 1e-12, 3e-12, 1e-11, 3e-11, 1e-10, 2e-10, 3e-10, 5e-10, 7e-10),
    *(1e-9, 1.4e-9, 2e-9, 3e-9, 4e-9, 6e-9, 8e-9, 1.2e-8),
)
TRAINING: dict[str, dict[str, Any]] = {
    "lenet5": {"epochs": 5},
    "resnet20": {"epochs": 8, "learning_rate": 0.1},
    "vit": {"epochs": 8, "learning_rate": 1e-3, "optimizer": "adamw"},
}
NNCODEC = """
import sys, numpy
from nncodec import nnc
weights = dict(numpy.load(sys.argv[1] + ".npz"))
size = len(nnc.compress(weights, bitstream_path=sys.argv[1], return_bitstream=True, qp=int(sys.argv[2])))
numpy.savez(sys.argv[1] + "-back.npz", **nnc.decompress(sys.argv[1]))
print(size)
"""


@dataclass(frozen=True)
class Written:
    """A file's setting and bytes, and the top-1 errors of the network that was read from it."""

    setting: float
    size: int
    validation: float
    test: float


def peer_rates(config: Config) -> Iterator[Benchmark]:
    """Bytes at equal error of a convolutional network, a residual one and a transformer."""
    if not has_nncodec(config) and not config.networks:
        return
    for kind, (name, source, pictures) in {
        # more positions to calibrate by than any layer has inputs
        "lenet5": ("LeNet-5-Caffe on MNIST", "mnist", 4096),
        "resnet20": ("ResNet-20 on CIFAR-10", config.pictures, 512),
        "vit": ("a small ViT on CIFAR-10", config.pictures, 512),
    }.items():
        if not source:
            say(f"skipped: {name}: --pictures imagefolder:DIR")
        if not source or (data := read(source, config)) is None:
            continue
        model = _network(kind, data, config)
        if config.nncodec:
            rows = data.train.take(slice(0, 64 if config.smoke else pictures))
            _compare(name, model, data, (list(rows.batches(128)), config))
    yield from ()


def _compare(name: str, model: "nn.Module", data: "DataSet", given: tuple[list[Any], Config]) -> None:
    """Print a line a file; given: batches to calibrate by, and the settings."""
    from compression.codec import decode, encode
    from compression.feedback import code_with_feedback

    calibration, config = given

    def ours(penalty: float, folder: str) -> tuple["nn.Module", int]:
        coded = code_with_feedback(model, calibration, penalty=penalty).model
        size = encode(coded, f"{folder}/net.dcz")
        return decode(f"{folder}/net.dcz", model).eval(), size

    def theirs(step: float, folder: str) -> tuple["nn.Module", int]:
        return _nncodec(model, int(step), folder, config.nncodec)

    few = 1 if config.smoke else None
    dense = _scored(lambda *_: (model, 0), 0, data)
    peers = [_scored(theirs, step, data) for step in STEPS[:few]]
    own = []
    for penalty in PENALTIES[:few]:
        own.append(_scored(ours, penalty, data))
        if own[-1].validation > 2 * max(peer.validation for peer in peers):
            break
    say(f"{name}, errs on {percent(dense.test, 2)} of the test as trained; no retraining:")
    for peer in peers:
        fit = [file for file in own if file.validation <= peer.validation]
        text = f"NNCodec qp {peer.setting:g}: {peer.size:,} bytes, errs on {percent(peer.test, 2)}; ours: "
        if not fit:
            say(text + "none errs as little on the held-out data")
            continue
        best = min(fit, key=lambda file: file.size)
        say(
            f"{text}{best.size:,} bytes, {percent(best.size / peer.size - 1, 1, sign=True)}, errs on "
            f"{percent(best.test, 2)} (penalty {best.setting:g})"
        )


def _scored(
    write: Callable[[float, str], tuple["nn.Module", int]], setting: float, data: "DataSet"
) -> Written:
    from compression.evaluation import evaluate

    with tempfile.TemporaryDirectory() as folder:
        model, size = write(setting, folder)
    scores = [evaluate(model, part.batches(500)).top1_error for part in (data.validation, data.test)]
    return Written(setting, size, *scores)


def _nncodec(model: "nn.Module", step: int, folder: str, python: str) -> tuple["nn.Module", int]:
    """The network that NNCodec gives back, and the bytes of its stream."""
    import numpy as np
    import torch

    from capacity.cloning import clone

    copied = clone(model)
    state = {name: value for name, value in copied.state_dict().items() if value.is_floating_point()}
    arrays: dict[str, Any] = {name: value.numpy() for name, value in state.items()}
    np.savez(f"{folder}/net.npz", **arrays)
    size = nncodec_bytes(python, NNCODEC, f"{folder}/net", str(step))
    back = np.load(f"{folder}/net-back.npz")
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(torch.from_numpy(back[name]).reshape(value.shape))
    return copied, size


def _network(kind: str, data: "DataSet", config: Config) -> "nn.Module":
    """A trained network, on the processor; read from the folder that keeps them where it lies there."""
    from pathlib import Path

    from compression.checkpoints import load_model, save_model

    seed_generators(0)
    model, pictures = _fresh(kind, data), data.train.take(slice(0, 256 if config.smoke else None))
    settings = dict(TRAINING[kind])
    settings["epochs"] = 1 if config.smoke else config.epochs or settings["epochs"]
    path = Path(config.networks) / f"{kind}-{len(pictures)}x{settings['epochs']}.safetensors"
    if config.networks and path.exists():
        say(f"read {path}: trained before")
        return load_model(model, path).eval()
    trained = _trained(model, pictures, settings).cpu()
    if config.networks:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(trained, path)
    return trained


def _fresh(kind: str, data: "DataSet") -> "nn.Module":
    import torch

    from analysis.lab.models import create

    if kind == "vit":
        from timm.models.vision_transformer import VisionTransformer

        transformer: nn.Module = VisionTransformer(
            img_size=32, patch_size=4, num_classes=10, embed_dim=96, depth=6, num_heads=3
        )  # fmt: skip
        return transformer
    model = create(kind, input_size=data.input_size, classes=10)
    return model.to(memory_format=torch.channels_last) if kind == "resnet20" else model


def _trained(model: "nn.Module", pictures: "Split", settings: dict[str, Any]) -> "nn.Module":
    from compression.batches import CropAndFlip
    from compression.precision import fast_bf16
    from compression.processes import own_device
    from compression.training import TrainingSettings, fit

    coloured = pictures.inputs.shape[1] == 3
    if coloured and fast_bf16(own_device()):
        settings = {**settings, "mixed_precision": "bf16"}
    augment = CropAndFlip() if coloured else None
    batches = pictures.to(own_device()).batches(128, shuffle=True, augment=augment)
    return fit(model, batches, settings=TrainingSettings(**settings)).model.eval()
