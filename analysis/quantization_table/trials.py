"""Trials of a quantization experiment: a network per seed, quantized in each scheme, measured and timed."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.lab.measurement.deployment import onnx_session
from analysis.lab.runner import Runner
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.progress import OnProgress
from capacity import InputError
from compression.checkpoints import load_json, save_json
from compression.costs import time_calls, wall_ms
from compression.counting import state_bytes
from compression.evaluation import evaluate, outputs
from compression.quantization import QuantizeResult, compiled, quantize
from compression.quantization.files import SCALARS, export_onnx, save_quantized
from compression.quantization.sqnr import signal_to_noise_db

if TYPE_CHECKING:
    from analysis.quantization_table.config import Config

SCHEMES = {
    "dynamic": ("dynamic", 8), "static": ("static", 8), "weight-only-8": ("weight-only", 8),
    "weight-only-4": ("weight-only", 4), "grouped-4": ("weight-only", 4), "aware-8": ("aware", 8),
    "aware-4": ("aware", 4), "uncalibrated": ("static", 8),
}  # fmt: skip
BATCHES = (1, 32)


class QuantizationTrials:
    """What all trials share: the runner, and how to train, calibrate and time."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.runner = Runner(config)

    def steps(self) -> int:
        """Networks that one seed's trial keeps."""
        return 1 + len(self.config.schemes)

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""
        trained = sum(name.startswith("aware") for name in self.config.schemes)
        return self.config.epochs + trained * self.config.retrain_epochs

    def prepare(self, folder: RunDirectory, on_progress: OnProgress) -> None:
        """Nothing: integers are computed on the CPU, where the data lies."""

    def trial(self, seed: int, folder: RunDirectory, on_progress: OnProgress) -> Iterator[dict[str, Any]]:
        """A row for the float network, and one for each scheme."""
        config, seed_dir = self.config, folder.path / f"seed-{seed}"
        on_progress(doing=f"seed {seed}: training")
        base = self.runner.trained(
            seed, seed_dir / "trained.safetensors", self.runner.training(seed, config.epochs), on_progress
        ).cpu()
        yield self._row(seed_dir / "float", seed, "float", lambda: self._float(base, seed_dir, seed))
        for name in config.schemes:
            on_progress(doing=f"seed {seed}: {name}")
            if (seed_dir / f"{name}.json").exists() and name.startswith("aware"):
                on_progress(config.retrain_epochs)
            yield self._row(
                seed_dir / name, seed, name, partial(self._quantized, base, name, seed, seed_dir, on_progress)
            )

    def _row(self, path: Path, seed: int, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        facts = path.with_name(path.name + ".json")
        if not facts.exists():
            save_json(facts, compute())
        return {"seed": seed, "scheme": name} | load_json(facts)

    def _float(self, base: nn.Module, seed_dir: Path, seed: int) -> dict[str, Any]:
        logits, targets = outputs(base, self.runner.data.test.batches(250))
        np.save(seed_dir / "float-logits.npy", logits.numpy(), allow_pickle=False)
        row = self._scored(logits, targets, logits)
        row["state_bytes"] = state_bytes(base)
        row["file_bytes"] = (seed_dir / "trained.safetensors").stat().st_size
        row |= self._deployed(base, base, seed_dir / "float.onnx", logits, seed)
        return row | self._noise(base)

    def _noise(self, base: nn.Module) -> dict[str, Any]:
        """Signal-to-quantization-noise ratio of each layer with its weight alone rounded, at 8 and 4 bits."""
        data = self.runner.data.train.take(slice(0, self.config.calibration)).batches(100)
        return {
            f"noise_db_{bits}_{name}": ratio
            for bits in (8, 4)
            for name, ratio in signal_to_noise_db(base, data=data, weight_bits=bits).items()
        }

    def _quantized(
        self, base: nn.Module, name: str, seed: int, seed_dir: Path, on_progress: OnProgress
    ) -> dict[str, Any]:
        scheme, bits = SCHEMES[name]
        data = self.runner.data.train.take(slice(0, self.config.calibration)).batches(100)
        settings = self.runner.training(seed, self.config.retrain_epochs, rate=0.1)
        result = quantize(
            base, scheme=scheme, input_size=self.runner.data.input_size, calibration=data,  # type: ignore[arg-type]
            retrain=lambda graph: self.runner.fit(graph, settings, on_progress).model, weight_bits=bits,  # type: ignore[arg-type]
            group_size=self.config.group_size if name.startswith("grouped") else None,
        )  # fmt: skip
        graph = uncalibrated(result) if name == "uncalibrated" else result.model
        logits, targets = outputs(graph, self.runner.data.test.batches(250))
        expected = torch.from_numpy(np.load(seed_dir / "float-logits.npy", allow_pickle=False))
        row = self._scored(logits, targets, expected) | {"state_bytes": result.bytes_after}
        row["file_bytes"] = save_quantized(result, seed_dir / f"{name}.safetensors")
        row["float_parameters"] = result.float_parameters
        return row | self._deployed(graph, base, seed_dir / f"{name}.onnx", logits, seed)

    def _scored(self, logits: Tensor, targets: Tensor, expected: Tensor) -> dict[str, Any]:
        """Scores on the test split, and how often the prediction is the float network's."""
        agreement = float((logits.argmax(1) == expected.argmax(1)).float().mean())
        scores = evaluate(nn.Identity(), [(logits, targets)])
        return scores.to_dict() | {"agreement_with_float": agreement}

    def _deployed(
        self, graph: nn.Module, base: nn.Module, path: Path, logits: Tensor, seed: int
    ) -> dict[str, Any]:
        """What it takes to run, in ONNX Runtime and in torch."""
        return self.runner.on_all_cores(
            lambda: self._onnx(graph, base, path, logits, seed) | self._timed(graph, base, seed)
        )

    def _onnx(
        self, graph: nn.Module, base: nn.Module, path: Path, logits: Tensor, seed: int
    ) -> dict[str, Any]:
        """Bytes of the ONNX file and agreement of ONNX Runtime with torch, or why there is no such file.

        Empty without the extra [onnx].
        """
        if not self.config.onnx or find_spec("onnxruntime") is None:
            return {}
        size = self.runner.data.input_size
        try:
            written = export_onnx(graph, path, input_size=size)
        except InputError as error:
            return {"onnx_refused": str(error)}
        session = onnx_session(path)
        name = session.get_inputs()[0].name
        test = self.runner.data.test.batches(250)
        theirs = torch.cat(
            [torch.from_numpy(session.run(None, {name: x.numpy()})[0]).argmax(1) for x, _ in test]
        )
        labels = torch.cat([targets for _, targets in test])
        row = {
            "onnx_bytes": written,
            "onnx_agreement": float((theirs == logits.argmax(1)).float().mean()),
            "onnx_top1_error": 1 - float((theirs == labels).float().mean()),
        }
        for batch in BATCHES if seed == 0 else ():
            x = torch.randn(batch, *size).numpy()
            spent = self._times(
                [partial(session.run, None, {name: x}), partial(base, torch.from_numpy(x))], batch
            )
            row |= {f"onnx_latency_{batch}_ms": spent[0], f"onnx_speedup_{batch}": spent[1] / spent[0]}
        return row

    def _timed(self, graph: nn.Module, base: nn.Module, seed: int) -> dict[str, Any]:
        """Latency beside the float network's in eager mode, taking turns; the first seed's stands for all."""
        if seed > 0:
            return {}
        row: dict[str, Any] = {"execution": "eager", "threads": torch.get_num_threads()}
        size = self.runner.data.input_size
        for batch in BATCHES:
            x = torch.randn(batch, *size)
            runs: Callable[[Tensor], Any] = graph
            if self.config.compile and graph is not base:
                try:
                    runs, row["execution"] = compiled(graph, x), "compiled"
                except InputError:
                    row["execution"] = "reference"
            elif graph is not base:
                row["execution"] = "reference"
            spent = self._times([partial(runs, x), partial(base, x)], batch)
            row |= {f"latency_{batch}_ms": spent[0], f"speedup_{batch}": spent[1] / spent[0]}
        return row

    def _times(self, calls: list[Callable[[], Any]], batch: int) -> list[float]:
        timings = time_calls(
            [partial(wall_ms, call) for call in calls], devices=["cpu"] * len(calls), batch_size=batch,
            repeats=self.config.repeats,
        )  # fmt: skip
        return [latency.median_ms for latency in timings]


def uncalibrated(result: QuantizeResult) -> nn.Module:
    """The graph as if no observer had seen an activation: every range has scale 1 and zero point 0."""
    graph = result.model
    assert isinstance(graph, torch.fx.GraphModule)
    for node in graph.graph.nodes:
        if str(node.target) in SCALARS:
            node.args = (node.args[0], 1.0, 0, *node.args[3:])
    graph.recompile()
    return graph
