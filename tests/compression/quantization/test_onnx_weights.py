"""What ONNX Runtime computes from an exported file, as it comes, beside what the graph computes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compression import export_onnx, quantize


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
