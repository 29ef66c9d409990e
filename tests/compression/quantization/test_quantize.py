"""quantize(): sizes, zeros, calibration, training with rounding, files, ONNX Runtime, refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from running import run_script
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from analysis.lab.models import create
from capacity import InputError
from compression.batches import TensorBatches
from compression.criteria import L1
from compression.evaluation import predictions
from compression.pruning import prune
from compression.quantization import compiled, quantize
from compression.quantization.files import export_onnx, load_quantized, pack, save_quantized, unpack
from compression.quantization.quantizers import blocks_of
from compression.shrinking import shrink
from compression.shrinking.files import digest
from compression.training import TrainingSettings, evaluate, fit

SIZE = (1, 8, 8)


def digits() -> tuple[TensorBatches, TensorBatches]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(bunch.target)
    return TensorBatches(x[:1400], y[:1400], 100, shuffle=True), TensorBatches(x[1400:], y[1400:], 100)


TRAIN, TEST = digits()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return fit(net(), TRAIN, settings=TrainingSettings(epochs=8)).model


def retrain(graph: nn.Module) -> nn.Module:
    return fit(graph, TRAIN, settings=TrainingSettings(epochs=4, learning_rate=0.01)).model


@pytest.fixture(scope="module")
def results(trained: nn.Module) -> dict:
    """Every scheme once: preparing a graph for training takes seconds."""
    return {case: quantized(trained, *case) for case in CASES}


def quantized(model: nn.Module, scheme: str, bits: int = 8, **options):
    given_ = {"calibration": TRAIN} if scheme in ("static", "aware") else {}
    given_ |= {"retrain": retrain} if scheme == "aware" else {}
    return quantize(model, scheme=scheme, input_size=SIZE, weight_bits=bits, **given_, **options)


def test_groups_round_finer_than_channels(trained: nn.Module, tmp_path) -> None:
    whole = quantized(trained, "weight-only", 4)
    groups = quantized(trained, "weight-only", 4, group_size=8)
    x = next(iter(TEST))[0]
    with torch.no_grad():
        exact, coarse, fine = (m(x) for m in (trained, whole.model, groups.model))
    assert (fine - exact).square().mean() < 0.7 * (coarse - exact).square().mean()
    scales = 16 + 16 * 16 + 64 * 32 + 10 * 8  # a 3x3 kernel is a group; eights of the dense inputs
    stored = [t for t in groups.model.state_dict().values() if t.dim() == 2 and t.is_floating_point()]
    assert sum(t.numel() for t in stored) == scales
    assert groups.bytes_after == whole.bytes_after + 4 * scales - _scale_bytes(whole)
    save_quantized(groups, tmp_path / "g.safetensors")
    again = load_quantized(net(), tmp_path / "g.safetensors", input_size=SIZE)
    with torch.no_grad():
        assert torch.equal(again(x), fine)


def _scale_bytes(result) -> int:
    """Bytes of the scales and zero points of weights rounded per channel."""
    kept = dict(result.model.named_buffers())
    return sum(t.numel() * t.element_size() for key, t in kept.items() if "scale" in key or "zero" in key)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 5), st.integers(1, 128))
def test_groups_divide_the_inputs(outputs: int, inputs: int, kernel: int, size: int) -> None:
    one, together, *rest = blocks_of((outputs, inputs, kernel, kernel), size)
    assert one == 1 and inputs % together == 0 and rest == [kernel, kernel]
    assert together == 1 or together * kernel**2 <= size
    larger = [n for n in range(together + 1, inputs + 1) if inputs % n == 0 and n * kernel**2 <= size]
    assert not larger


CASES = [("dynamic", 8), ("static", 8), ("weight-only", 8), ("weight-only", 4), ("aware", 8), ("aware", 4)]


@pytest.mark.parametrize(("scheme", "bits"), CASES)
def test_accuracy_stays_and_bytes_fall(trained: nn.Module, results: dict, scheme: str, bits: int) -> None:
    result = results[scheme, bits]
    error, least = evaluate(result.model, TEST).top1_error, evaluate(trained, TEST).top1_error
    assert error <= least + (0.03 if bits == 4 else 0.01)
    assert result.bytes_after < (0.2 if bits == 4 else 0.4) * result.bytes_before
    assert len(result.layers) == 4 and f"{result.bytes_after:,} bytes" in str(result)
    assert "\\toprule" in result.to_latex()


def test_dynamic_is_what_report_b_called_static() -> None:
    model = create("vgg16bn", input_size=(3, 32, 32), classes=100).eval()
    result = quantize(model, scheme="dynamic", input_size=(3, 32, 32))
    assert result.float_parameters == 14_723_136
    assert round(result.bytes_after / 2**20, 2) == 74.65 and round(result.bytes_before / 2**20, 1) == 129.8
    assert len(result.left_in_float) == 13
    assert "only dense layers (3 of 16) change" in result.table().title


def test_static_is_a_quarter_of_the_bytes() -> None:
    model = create("vgg16bn", input_size=(3, 32, 32), classes=100).eval()
    data = TensorBatches(torch.randn(8, 3, 32, 32), torch.zeros(8, dtype=torch.long), 8)
    result = quantize(model, scheme="static", input_size=(3, 32, 32), calibration=data)
    assert result.bytes_after <= 33 * 2**20 and not result.left_in_float


@pytest.mark.parametrize("scheme", ["static", "weight-only", "dynamic"])
def test_pruned_weights_stay_zero(trained: nn.Module, scheme: str) -> None:
    masked = prune(trained, L1("zero"), amount=0.8, scope="global", layers=["0", "4", "7", "10"]).model
    graph = quantized(masked, scheme).model
    zeros = sum(int((t == 0).sum()) for t in graph.state_dict().values() if t.dtype == torch.int8)
    dropped = sum(int((masked.get_submodule(str(k)).weight == 0).sum()) for k in (0, 4, 7, 10))
    in_dense = sum(int((masked.get_submodule(str(k)).weight == 0).sum()) for k in (7, 10))
    assert zeros >= (in_dense if scheme == "dynamic" else dropped)
    small = shrink(prune(trained, L1(), amount=0.25, unit="neuron", layers=["4", "7"]).model, SIZE)
    assert quantized(small.model, scheme).bytes_after < quantized(trained, scheme).bytes_after


def test_pruned_weights_stay_zero_while_rounding_is_trained_in() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    whole = fit(dense, TRAIN, settings=TrainingSettings(epochs=6)).model
    masked = prune(whole, L1("zero"), amount=0.8, scope="global", layers=["1", "3"]).model
    result = quantized(masked, "aware")
    stored = [t for t in result.model.state_dict().values() if t.dtype == torch.int8]
    zeros = sum(int((t == 0).sum()) for t in stored)
    assert zeros >= round(0.8 * (64 * 32 + 320)) > 0.75 * sum(t.numel() for t in stored)
    assert evaluate(result.model, TEST).top1_error < evaluate(masked, TEST).top1_error


def test_the_model_given_is_not_changed() -> None:
    model, fresh = net(), net()
    for scheme in ("static", "weight-only", "dynamic"):
        quantized(model, scheme)
    pairs = zip(model.state_dict().values(), fresh.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_training_with_rounding_beats_rounding_afterwards_at_four_bits(results: dict) -> None:
    after = evaluate(results["weight-only", 4].model, TEST)
    aware = evaluate(results["aware", 4].model, TEST)
    assert aware.cross_entropy_nats < after.cross_entropy_nats


def test_ranges_from_the_wrong_data_show_why_calibration_is_required(trained: nn.Module) -> None:
    tiny = TensorBatches(TRAIN.inputs * 1e-3, TRAIN.targets, 100)
    wrong = quantize(trained, scheme="static", input_size=SIZE, calibration=tiny).model
    right = quantized(trained, "static").model
    assert evaluate(wrong, TEST).top1_error > evaluate(right, TEST).top1_error + 0.1


def test_layers_kept_in_float_are_listed(trained: nn.Module) -> None:
    for scheme in ("static", "weight-only"):
        result = quantized(trained, scheme, keep=["0", "10"])
        assert result.left_in_float == {"0": "as asked", "10": "as asked"}
        held = sum(t.numel() for t in result.model.state_dict().values() if t.dtype == torch.int8)
        assert held == 16 * 16 * 9 + 256 * 64


@pytest.mark.parametrize(("scheme", "bits"), [case for case in CASES if case != ("aware", 8)])
def test_files_load_to_the_same_predictions_in_a_fresh_process(results, scheme, bits, tmp_path) -> None:
    result = results[scheme, bits]
    written = save_quantized(result, tmp_path / "net.safetensors")
    assert written == (tmp_path / "net.safetensors").stat().st_size < result.bytes_after + 8_000
    x = TEST.inputs
    torch.save({"x": x, "y": result.model(x).detach()}, tmp_path / "example.pt")
    again = load_quantized(net(), tmp_path / "net.safetensors", input_size=SIZE)
    assert torch.equal(again(x), result.model(x))
    if (scheme, bits) == ("static", 8):
        (tmp_path / "factory.py").write_text(
            "from torch import nn\n"
            "def net():\n"
            "    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),\n"
            "        nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(),\n"
            "        nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))\n"
        )
        code = (
            "import torch\nfrom factory import net\n"
            "from compression.quantization.files import load_quantized\n"
            "kept = torch.load('example.pt', weights_only=True)\n"
            "graph = load_quantized(net(), 'net.safetensors', input_size=(1, 8, 8))\n"
            "print(torch.equal(graph(kept['x']), kept['y']))\n"
        )
        done = run_script(code, cwd=tmp_path)
        assert done.stdout.strip() == "True", done.stderr


def test_damaged_and_foreign_files_are_refused(trained: nn.Module, tmp_path) -> None:
    path = tmp_path / "net.safetensors"
    save_quantized(quantized(trained, "static"), path)
    with pytest.raises(InputError, match="another architecture"):
        load_quantized(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), path, input_size=SIZE)
    for content in (path.read_bytes()[:-50], b"nothing", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged or holds no quantized network"):
            load_quantized(net(), path, input_size=SIZE)


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_compiled_integer_kernels_predict_the_same(results: dict) -> None:
    graph = results["static", 8].model
    x = TEST.inputs[:64]
    fast = compiled(graph, x)
    assert torch.equal(fast(x).argmax(1), graph(x).argmax(1))
    with pytest.raises(InputError, match=r"for inputs of shape \(64, 1, 8, 8\), found \(3, 1, 8, 8\)"):
        fast(x[:3])


class Remembering(nn.Module):
    """Keeps what its first pass makes of a parameter, as LeViT keeps its tables of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.offsets = nn.Linear(8, 8), nn.Parameter(torch.arange(8.0))
        self.made: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "twice" not in self.made:
            self.made["twice"] = 2 * self.offsets.detach()
        found: torch.Tensor = self.inner(x) + self.made["twice"]
        return found


def test_what_a_first_pass_keeps_is_loaded_into_a_model_that_never_ran(tmp_path) -> None:
    torch.manual_seed(0)
    quantized = quantize(Remembering(), scheme="weight-only", input_size=(8,))
    save_quantized(quantized, tmp_path / "net.safetensors")
    loaded = load_quantized(Remembering(), tmp_path / "net.safetensors", input_size=(8,))
    x = torch.randn(4, 8)
    assert torch.equal(loaded(x), quantized.model(x))


def test_dynamic_ranges_have_no_onnx_form(results: dict, tmp_path) -> None:
    with pytest.raises(InputError, match="no ONNX form"):
        export_onnx(results["dynamic", 8].model, tmp_path / "net.onnx", input_size=SIZE)
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("scheme", ["static", "aware", "weight-only"])
def test_onnx_runtime_agrees(trained: nn.Module, results: dict, scheme: str, tmp_path) -> None:
    import onnxruntime

    graph = results[scheme, 8].model
    written = export_onnx(graph, tmp_path / "net.onnx", input_size=SIZE)
    trained.train()[1].eval()
    assert written < export_onnx(trained, tmp_path / "float.onnx", input_size=SIZE)
    assert trained.training and not trained[1].training and trained[0].training  # as they were
    trained.eval()
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    logits = session.run(None, {session.get_inputs()[0].name: TEST.inputs.numpy()})[0]
    ours, _ = predictions(graph, TEST)
    assert np.mean(logits.argmax(1) == ours.numpy()) >= 0.995


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=40))
def test_packing_gives_back_every_value(values: list[int]) -> None:
    tensor = torch.tensor(values, dtype=torch.int8)
    packed = pack(tensor)
    assert packed.numel() == -(-len(values) // 2) and torch.equal(unpack(packed, tensor.shape), tensor)


def test_bad_input(trained: nn.Module) -> None:
    with pytest.raises(InputError, match="'static' needs calibration data"):
        quantize(trained, scheme="static", input_size=SIZE)
    with pytest.raises(InputError, match="calibration data is empty"):
        quantize(trained, scheme="static", input_size=SIZE, calibration=[])
    shapes = TensorBatches(torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.long), 2)
    with pytest.raises(InputError, match="calibration data does not fit the model"):
        quantize(trained, scheme="static", input_size=SIZE, calibration=shapes)
    with pytest.raises(InputError, match="did you mean 'static'"):
        quantize(trained, scheme="statik", input_size=SIZE)
    with pytest.raises(InputError, match="int8 kernels only"):
        quantized(trained, "static", 4)
    with pytest.raises(InputError, match="group_size is for scheme 'weight-only'"):
        quantize(trained, scheme="dynamic", input_size=SIZE, group_size=32)
    with pytest.raises(InputError, match="group_size must be at least 1"):
        quantize(trained, scheme="weight-only", input_size=SIZE, group_size=0)
    with pytest.raises(InputError, match="weight_bits must be 8 or 4"):
        quantized(trained, "weight-only", 3)
    with pytest.raises(InputError, match="needs retrain"):
        quantize(trained, scheme="aware", input_size=SIZE, calibration=TRAIN)
    with pytest.raises(InputError, match="unknown layer to keep in float"):
        quantized(trained, "static", keep=["1"])
    with pytest.raises(InputError, match="no dense or convolutional layer"):
        quantized(nn.Sequential(nn.ReLU()), "dynamic")
    with pytest.raises(InputError, match="quantized already"):
        quantized(quantized(trained, "static").model, "dynamic")


@pytest.mark.parametrize("scheme", ["weight-only", "static"])
def test_a_file_with_one_bit_flipped_is_refused(trained: nn.Module, tmp_path, scheme: str) -> None:
    path = tmp_path / "net.safetensors"
    save_quantized(quantized(trained, scheme), path)
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 60)):
        bad = bytearray(content)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        with pytest.raises(InputError, match="damaged"):
            load_quantized(net(), path, input_size=SIZE)


@pytest.fixture(scope="module")
def saved(trained: nn.Module, tmp_path_factory) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors and facts of a good file of static integers."""
    path = tmp_path_factory.mktemp("saved") / "net.safetensors"
    save_quantized(quantized(trained, "static"), path)
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()["quantized"]  # noqa: SIM118


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ranges", [[float("nan"), 0]]), ("ranges", [[-0.1, 0]]), ("ranges", [[0.1, 999]]),
        ("ranges", [[1e-320, 0]]), ("ranges", [[1e300, 0]]), ("ranges", [[0.1, True]]), ("ranges", [["", 0]]),
        ("ranges", 3), ("ranges", [[0.1]]), ("ranges", []), ("weight_bits", 4 * 10**9), ("weight_bits", True),
        ("weight_bits", "8"), ("weight_bits", 4), ("group_size", -1), ("group_size", 10**30),
        ("group_size", 0.5),
        ("scheme", "fastest"), ("scheme", ["static"]), ("keep", "0"), ("keep", ["x"]), ("keep", [3]),
        ("extra", 1),
    ],
)  # fmt: skip
def test_a_file_with_impossible_facts_is_refused(saved, tmp_path, key: str, value: object) -> None:
    tensors, text = saved
    text, path = json.dumps(json.loads(text) | {key: value}), tmp_path / "net.safetensors"
    save_file(tensors, path, metadata={"quantized": text, "sha256": digest(text, tensors)})
    with pytest.raises(InputError, match=r"damaged|another architecture|scheme"):
        load_quantized(net(), path, input_size=SIZE)


@pytest.mark.parametrize(
    ("key", "value"),
    [("_scale_0", float("nan")), ("_scale_0", -1.0), ("_scale_0", 0.0), ("_zero_point_0", 999),
     ("_zero_point_0", -(2**63))],
)  # fmt: skip
def test_a_file_with_impossible_steps_of_weights_is_refused(saved, tmp_path, key: str, value: float) -> None:
    tensors, text = dict(saved[0]), saved[1]
    tensors[key] = torch.full_like(tensors[key], value)
    path = tmp_path / "net.safetensors"
    save_file(tensors, path, metadata={"quantized": text, "sha256": digest(text, tensors)})
    with pytest.raises(InputError, match=f"damaged or holds no quantized network: {key}"):
        load_quantized(net(), path, input_size=SIZE)
