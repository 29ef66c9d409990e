"""What ONNX Runtime computes from an exported file, as it comes, beside what the graph computes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compression import export_onnx, quantize
from compression.quantization.agreement import least_sqnr_db


class Products(nn.Module):
    """Dense layers on rows and on sequences, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.head = nn.Linear(32, 128), nn.Linear(128, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.narrow(torch.relu(self.wide(x)))
        return self.head(torch.tanh(self.head(x)) + x.mean(1, keepdim=True)).mean(1)


@pytest.mark.parametrize("options", [{}, {"weight_bits": 4}, {"group_size": 16}], ids=str)
@pytest.mark.parametrize("size", [(6, 32), (32,)], ids=["sequences", "rows"])
def test_weights_alone_are_rounded(size: tuple[int, ...], options: dict, tmp_path: Path) -> None:
    """Beyond 100 dB: what ONNX Runtime does by default, activations in 8 bits, is 40 dB away."""
    import onnx
    import onnxruntime

    torch.manual_seed(0)
    model = Products() if len(size) == 2 else nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 9))
    graph = quantize(model, scheme="weight-only", input_size=size, **options).model
    export_onnx(graph, tmp_path / "net.onnx", input_size=size)
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    x = torch.randn(64, *size)
    theirs = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    ours = graph(x).detach()
    noise = np.square(theirs - ours.numpy()).sum()
    assert noise < 1e-10 * np.square(theirs).sum()
    if not options:
        stored = {tuple(one.dims) for one in onnx.load(tmp_path / "net.onnx").graph.initializer}
        assert (32, 128) in stored or len(size) == 1  # the integers lie as the product needs them


def weak(kind: str) -> tuple[nn.Module, Tensor]:
    """A network with channels or inputs that say next to nothing beside ordinary biases, and data for it."""
    torch.manual_seed(0)
    if kind == "norm":
        model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3))
        nn.init.normal_(model[1].bias)
        with torch.no_grad():
            model[1].weight[:6] = torch.tensor([1e-12, 1e-8, 1e-6, 1e-4, 1e-3, 1e-5])
        return model.eval(), torch.randn(32, 3, 8, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].bias.fill_(1.0)
        model[0].weight[:2] *= 1e-6 if kind == "channels" else 1.0
    return model.eval(), torch.randn(32, 8) * (1e-8 if kind == "inputs" else 1.0)


@pytest.mark.parametrize("scheme", ["static", "aware"])
@pytest.mark.parametrize("kind", ["norm", "channels", "inputs"])
def test_biases_beside_faint_weights_do_not_run_over(kind: str, scheme, tmp_path: Path) -> None:
    """ONNX Runtime counts a bias in steps of its channel, in 32 bits, which they ran over."""
    import onnxruntime

    model, x = weak(kind)
    options: dict = {"retrain": lambda graph: graph} if scheme == "aware" else {}
    batches = [(x, torch.zeros(len(x), dtype=torch.long))]
    result = quantize(model, scheme=scheme, input_size=tuple(x.shape[1:]), calibration=batches, **options)
    export_onnx(result.model, tmp_path / "net.onnx", input_size=tuple(x.shape[1:]))
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    theirs = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    with torch.no_grad():
        ratio_db = least_sqnr_db([model(x)], [theirs])
        assert least_sqnr_db([result.model(x)], [theirs]) > 40
    assert ratio_db is not None and ratio_db > 30
