"""Files of integers, of graphs and of modules: as saved, of earlier releases, damaged; and of ONNX."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from unexported import IDS, Routed, in_modules

from capacity import InputError
from compression.quantization import (
    export_onnx,
    load_quantized,
    quantize,
    save_quantized,
)
from compression.quantization.files import pack
from compression.shrinking.files import digest


@pytest.fixture(scope="module")
def routed() -> Routed:
    torch.manual_seed(0)
    return Routed().eval()


@pytest.mark.parametrize("bits", [8, 4])
def test_files_give_back_the_same_modules(routed: Routed, tmp_path: Path, bits: Any) -> None:
    result = quantize(routed, scheme="weight-only", input_size=IDS, weight_bits=bits, keep=["gate"])
    assert result.left_in_float["gate"] == "as asked"
    size = save_quantized(result, tmp_path / "net")
    assert size < result.bytes_after + 6_000
    loaded = load_quantized(Routed(), tmp_path / "net", input_size=IDS)
    with torch.no_grad():
        assert torch.equal(loaded(IDS), result.model(IDS))
    loaded.first.parametrizations.weight.original0.data.zero_()
    assert not loaded.second.weight.any()  # still tied
    with pytest.raises(InputError, match="another architecture"):
        other = Routed()
        other.gate = nn.Linear(8, 3)
        load_quantized(other, tmp_path / "net", input_size=IDS)


def test_integers_of_the_models_own_are_not_packed(tmp_path: Path) -> None:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 3)
            self.register_buffer("codes", torch.tensor([100, -3, 50, 7, -100, 1, 2, 127], dtype=torch.int8))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.two(self.one(x) * self.codes.float())
            return out

    result = quantize(Coded(), scheme="weight-only", input_size=(8,), weight_bits=4)
    assert result.bytes_after == 88 // 2 + 8 + 11 * 4 + 11 * (4 + 8)  # packed, codes, biases, scales, zeros
    save_quantized(result, tmp_path / "net")
    loaded = load_quantized(Coded(), tmp_path / "net", input_size=(8,))
    x = torch.randn(4, 8)
    assert torch.equal(loaded(x), result.model(x))


def rewritten(path: Path, change: Any) -> None:
    """A file with other facts and tensors, and the SHA-256 that they have."""
    with safe_open(str(path), framework="pt") as file:
        facts = json.loads(file.metadata()["quantized"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(facts, tensors)
    text = json.dumps(facts)
    save_file(tensors, path, metadata={"quantized": text, "sha256": digest(text, tensors)})


def test_files_of_an_earlier_release(tmp_path: Path) -> None:
    size, model = (4, 5, 5), nn.Sequential(nn.ConvTranspose2d(4, 4, 2), nn.Conv2d(4, 2, 3))
    for part, name in ((model, "turned"), (model[1:], "plain")):
        result = quantize(part, scheme="weight-only", input_size=size)
        save_quantized(result, tmp_path / name)
        rewritten(tmp_path / name, lambda facts, _: (facts.pop("version"), facts.pop("form")))
    x = torch.randn(2, *size)
    assert torch.equal(load_quantized(model[1:], tmp_path / "plain", input_size=size)(x), result.model(x))
    with pytest.raises(InputError, match="an earlier release wrote this file, and rounded transposed"):
        load_quantized(model, tmp_path / "turned", input_size=size)
    rewritten(tmp_path / "plain", lambda facts, _: facts.update(version=3))
    with pytest.raises(InputError, match="its version is 3, and this release reads up to 2"):
        load_quantized(model[1:], tmp_path / "plain", input_size=size)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_scales_that_are_none_are_damage(routed: Routed, tmp_path: Path, scale: float) -> None:
    save_quantized(quantize(routed, scheme="weight-only", input_size=IDS), tmp_path / "net")
    rewritten(
        tmp_path / "net", lambda _, tensors: tensors["gate.parametrizations.weight.0.scales"].fill_(scale)
    )
    with pytest.raises(InputError, match=r"is damaged or holds no quantized network: gate.parametrizations"):
        load_quantized(Routed(), tmp_path / "net", input_size=IDS)


OFFSET = torch.full((4,), 2.0)


def test_loading_changes_nothing_of_the_callers(tmp_path: Path) -> None:
    class Global(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("shift", torch.zeros(1, 3).expand(2, 3))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x * OFFSET) + self.shift[:1]
            return out

    result = quantize(Global(), scheme="weight-only", input_size=(4,))
    save_quantized(result, tmp_path / "net")
    expected = result.model(torch.ones(2, 4))
    OFFSET.fill_(3.0)
    loaded = load_quantized(Global(), tmp_path / "net", input_size=(4,))
    assert OFFSET.tolist() == [3.0] * 4
    assert torch.equal(loaded(torch.ones(2, 4)), expected)
    OFFSET.fill_(2.0)


def test_what_lies_in_the_model_to_fill_is_not_asked(routed: Routed, tmp_path: Path) -> None:
    result = quantize(routed, scheme="weight-only", input_size=IDS)
    save_quantized(result, tmp_path / "net")
    empty = Routed()
    for parameter in empty.parameters():
        parameter.data.fill_(float("nan"))
    assert torch.equal(load_quantized(empty, tmp_path / "net", input_size=IDS)(IDS), result.model(IDS))
    with pytest.raises(InputError, match=r"quantization takes float32, and .* is torch.float16"):
        load_quantized(Routed().half(), tmp_path / "net", input_size=IDS)


def test_a_batch_that_the_code_fixes_is_not_written_as_free(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x).reshape(len(x), -1)
            return out

    for network in (Fixed(), quantize(Fixed(), scheme="weight-only", input_size=(4,)).model):
        with pytest.raises(InputError, match="fixes the size of the batch"):
            export_onnx(network, tmp_path / "net.onnx", input_size=(4,))
    assert not (tmp_path / "net.onnx").exists()


def test_layers_that_stay_in_float_with_all_their_matrices(tmp_path: Path) -> None:
    class Adapted(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 6)
            self.down, self.up = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.randn(6, 2))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x @ self.down.T @ self.up.T

    for model in (nn.Sequential(Adapted(), nn.Linear(6, 3)), in_modules(Adapted(), nn.Linear(6, 3))):
        result = quantize(model, scheme="weight-only", input_size=(6,), keep=["0"])
        assert set(result.left_in_float) == {"0", "0.down", "0.up"} and result.keep == ("0",)
        save_quantized(result, tmp_path / "net")
        loaded = load_quantized(model, tmp_path / "net", input_size=(6,))
        x = torch.randn(2, 6)
        assert torch.equal(loaded(x), result.model(x))
        nothing = quantize(model, scheme="weight-only", input_size=(6,), keep=["0", "1"])
        assert set(nothing.left_in_float.values()) == {"as asked"}


def test_codes_of_the_models_own_that_it_reads_as_integers(tmp_path: Path) -> None:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("codes", torch.tensor([127, -100, 3, 50], dtype=torch.int8))

        def forward(self, x: Tensor) -> Tensor:
            read = torch.ops.quantized_decomposed.dequantize_per_tensor
            out: Tensor = self.layer(x) * read(self.codes, 0.1, 0, -128, 127, torch.int8)
            return out

    result = quantize(Coded(), scheme="weight-only", input_size=(4,), weight_bits=4)
    save_quantized(result, tmp_path / "net")
    x = torch.randn(2, 4)
    loaded = load_quantized(Coded(), tmp_path / "net", input_size=(4,))
    assert torch.equal(loaded(x), result.model(x))
    with pytest.raises(InputError, match="beyond -8 to 7 have no four bits"):
        pack(torch.tensor([8], dtype=torch.int8))


class Aliases(nn.Module):
    """Holds an embedding and a buffer twice, and reads the second."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(9, 4), nn.Linear(4, 3)
        self.register_buffer("offset", torch.randn(3))
        self.others = {"table": self.embedding.weight, "offset": self.offset}

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.layer(F.embedding(ids, self.others["table"]).mean(1)) + self.others["offset"]
        return out


def test_what_else_holds_tensors_sees_what_is_loaded(tmp_path: Path) -> None:
    ids = torch.tensor([[1, 5]])
    result = quantize(in_modules(Aliases()), scheme="weight-only", input_size=ids)
    save_quantized(result, tmp_path / "net")
    loaded = load_quantized(in_modules(Aliases()), tmp_path / "net", input_size=ids)
    assert torch.equal(loaded(ids), result.model(ids))

    def sharing() -> nn.Sequential:
        model = in_modules(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
        model[2].weight = nn.Parameter(model[1].weight.data)
        return model

    result = quantize(sharing(), scheme="weight-only", input_size=(6,))
    save_quantized(result, tmp_path / "shared")
    loaded = load_quantized(sharing(), tmp_path / "shared", input_size=(6,))
    x = torch.randn(2, 6)
    assert torch.equal(loaded(x), result.model(x))


def test_parameters_that_the_state_leaves_out_stay_the_models_own(tmp_path: Path) -> None:
    def without_bias(_module: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
        del state["0.bias"]

    def made() -> nn.Sequential:
        torch.manual_seed(0)
        model = in_modules(nn.Linear(6, 6), nn.Linear(6, 6))
        model._register_state_dict_hook(without_bias)
        return model

    result = quantize(made(), scheme="weight-only", input_size=(6,))
    save_quantized(result, tmp_path / "net")
    x = torch.randn(2, 6)
    assert torch.equal(load_quantized(made(), tmp_path / "net", input_size=(6,))(x), result.model(x))


def test_files_of_modules_of_an_earlier_release(routed: Routed, tmp_path: Path) -> None:
    save_quantized(quantize(routed, scheme="weight-only", input_size=IDS), tmp_path / "net")
    rewritten(tmp_path / "net", lambda facts, _: facts.pop("version"))
    with pytest.raises(InputError, match="an earlier release wrote it: quantize the model and save it again"):
        load_quantized(Routed(), tmp_path / "net", input_size=IDS)
