"""Networks whose operations torch's exporter has no form for, exported in one that it has."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from compression import export_onnx, quantize
from compression.quantization.onnx_forms import EXPERTS, ForOnnx, attention, products_of_experts


@pytest.mark.parametrize("masked", ["not", "by-position", "each", "causal"])
@pytest.mark.parametrize("before", [(), (3,), (2, 3), (2, 4, 3), (2, 2, 2, 3)], ids=str)
def test_attention_is_the_same_in_any_number_of_dimensions(before: tuple[int, ...], masked: str) -> None:
    query, key, value = (torch.randn(*before, count, 8) for count in (5, 7, 7))
    options: dict = {"is_causal": True} if masked == "causal" else {}
    if masked == "by-position":
        options["attn_mask"] = torch.rand(5, 7) > 0.3
    elif masked == "each":
        options["attn_mask"] = torch.randn(*before, 5, 7)
    ours = attention(query, key, value, **options)
    assert torch.allclose(ours, scaled_dot_product_attention(query, key, value, **options), atol=1e-6)


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ((2, 4, 6, 5, 8), (2, 1, 6, 7, 8)), ((2, 4, 6, 5, 8), (1, 4, 6, 7, 8)),
        ((2, 4, 6, 5, 8), (4, 6, 7, 8)), ((1, 1, 3, 5, 8), (2, 4, 3, 7, 8)),
        ((3, 5, 8), (1, 3, 7, 8)), ((5, 8), (1, 7, 8)),
    ],
    ids=str,
)  # fmt: skip
def test_attention_takes_keys_of_other_dimensions(query: tuple[int, ...], key: tuple[int, ...]) -> None:
    given = {"query": torch.randn(query), "key": torch.randn(key), "value": torch.randn(key)}
    mask = torch.rand(7) > 0.3
    right = scaled_dot_product_attention(**given, attn_mask=mask)
    ours = attention(**given, attn_mask=mask)
    assert ours.shape == right.shape and torch.allclose(ours, right, atol=1e-6)
    with ForOnnx():
        assert torch.allclose(scaled_dot_product_attention(**given, attn_mask=mask), right, atol=1e-6)


class Windows(nn.Module):
    """Attention within windows, whose results a view joins."""

    def __init__(self, *, windows: int) -> None:
        super().__init__()
        self.windows = windows
        self.split, self.join = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, _ = x.shape
        parts = self.split(x).reshape(batch, self.windows, positions // self.windows, 3, 2, 8)
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5).unbind(0)
        if self.windows == 1:
            query, key, value = query[:, 0], key[:, 0], value[:, 0]
        mixed = scaled_dot_product_attention(query, key, value).transpose(-3, -2)
        return self.join(mixed.reshape(batch, positions, 16))


@pytest.mark.parametrize("integers", [True, False], ids=["integers", "floats"])
@pytest.mark.parametrize("windows", [1, 4])
def test_attention_in_windows_runs_elsewhere(windows: int, integers: bool, tmp_path: Path) -> None:
    import onnxruntime

    torch.manual_seed(0)
    model: nn.Module = Windows(windows=windows).eval()
    if integers:
        model = quantize(model, scheme="weight-only", input_size=(12, 16)).model
    export_onnx(model, tmp_path / "net.onnx", input_size=(12, 16))
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    x = torch.randn(5, 12, 16)
    theirs = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert np.allclose(theirs, model(x).detach().numpy(), atol=1e-5)


def test_views_may_copy() -> None:
    turned = torch.arange(12.0).reshape(3, 4).t()
    with pytest.raises(RuntimeError, match="view"):
        torch.ops.aten.view.default(turned, [12])
    with ForOnnx():
        assert torch.ops.aten.view.default(turned, [12]).tolist() == turned.reshape(12).tolist()


def test_experts_are_those_of_transformers(tmp_path: Path) -> None:
    import onnxruntime

    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(config).eval()
    rows, weights, ends = torch.randn(7, 3), torch.randn(4, 3, 5), torch.tensor([2, 2, 6, 7])
    theirs = getattr(torch.ops.transformers, EXPERTS.split(".")[1]).default(rows, weights, ends)
    assert torch.allclose(products_of_experts(rows, weights, ends), theirs, atol=1e-6)
    ids = {"input_ids": torch.randint(0, 50, (2, 9))}
    graph = quantize(model, scheme="weight-only", input_size=ids).model
    export_onnx(graph, tmp_path / "net.onnx", input_size=ids)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    other = torch.randint(0, 50, (3, 9))
    logits = session.run(None, {session.get_inputs()[0].name: other.numpy()})[0]
    assert np.allclose(logits, graph(input_ids=other).logits.detach().numpy(), atol=1e-4)
