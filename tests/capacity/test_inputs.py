"""Example inputs, whole numbers of every kind, and errors alike wherever a model is run."""

import numpy as np
import pytest
import torch
from torch import nn

import capacity
import compression
from capacity import InputError, dense_capacity, measure
from capacity.inputs import as_integer, example_input, forward, require_weights


@pytest.mark.parametrize("value", [7, np.int64(7), np.uint8(7), torch.tensor(7), torch.tensor([7])])
def test_whole_numbers_of_every_library(value) -> None:
    found = as_integer("count", value)
    assert found == 7 and type(found) is int


@pytest.mark.parametrize("value", [7.0, True, "7", None, np.float64(7), torch.tensor(7.0), np.bool_(True)])
def test_what_is_no_whole_number_is_refused(value) -> None:
    with pytest.raises(InputError, match="count must be a whole number"):
        as_integer("count", value)
    with pytest.raises(InputError, match="at least 3, found 2"):
        as_integer("count", 2, least=3)


def test_sizes_may_be_numpy_s_and_do_not_overflow() -> None:
    size = tuple(np.array([1, 4], dtype=np.int32))
    assert measure(nn.Linear(4, 2), size).capacity_bits == measure(nn.Linear(4, 2), (1, 4)).capacity_bits
    assert dense_capacity(np.int64(2), [np.int32(2), np.uint8(1)]) == 8
    huge = dense_capacity(np.int32(2**31 - 1), [np.int32(2**31 - 1)])
    assert huge == 2**31 * (2**31 - 1)
    with pytest.raises(InputError, match="must be a whole number, found True"):
        dense_capacity(2, [True])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_example_has_the_model_s_type(dtype: torch.dtype) -> None:
    (found,), _ = example_input(nn.Linear(3, 2).to(dtype), (3,), device="cpu")
    assert found.dtype == dtype


@pytest.mark.parametrize(
    ("size", "message"), [(784, r"\(784,\)"), ((0, 3), "shape of one sample"), ("3", "shape")]
)
def test_bad_sizes(size, message: str) -> None:
    with pytest.raises(InputError, match=message):
        example_input(nn.Linear(3, 2), size, device="cpu")


def test_what_torch_raises_in_a_model_says_what_went_in() -> None:
    with pytest.raises(InputError, match=r"Linear cannot take a batch of float32 \(5, 7\): mat1 and mat2"):
        forward(nn.Linear(6, 3), (torch.zeros(5, 7),), {})
    with pytest.raises(InputError, match=r"batch of wrong=int64 \(2,\): .*unexpected keyword"):
        forward(nn.Linear(6, 3), (), {"wrong": torch.zeros(2, dtype=torch.int64)})


def test_meta_models_are_refused_by_name() -> None:
    require_weights(nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"'0.weight' lies on the meta device"):
        require_weights(nn.Sequential(nn.Linear(2, 2, device="meta")))


CALLS = {
    "measure": lambda m: capacity.measure(m, (4,)), "bounds": lambda m: capacity.bounds(m, (4,)),
    "effective": lambda m: capacity.measure(m, (4,), effective=True),
    "prune": lambda m: compression.prune(m, compression.L1(), amount=0.5),
    "shrink": lambda m: compression.shrink(m, (4,), amount=0.4),
    "factorize": lambda m: compression.factorize(m, rank=1),
    "share_weights": lambda m: compression.share_weights(m, bits=2),
    "coding_report": compression.coding_report, "encode": lambda m: compression.encode(m, "unwritten"),
    "save_model": lambda m: compression.save_model(m, "unwritten"),
    "save_shrunk": lambda m: compression.save_shrunk(m, "unwritten"),
    "flops": lambda m: compression.flops(m, (4,)),
    "latency": lambda m: compression.latency(m, (4,), repeats=1),
    "peak_memory_bytes": lambda m: compression.peak_memory_bytes(m, (4,)),
    "fit": lambda m: compression.fit(m, BATCHES), "evaluate": lambda m: compression.evaluate(m, BATCHES),
    "distill": lambda m: compression.distill(nn.Linear(4, 3), m, BATCHES),
    "rewind": lambda m: compression.rewind(m, m),
    "quantize": lambda m: compression.quantize(m, scheme="weight-only", input_size=(4,)),
    "quantize_rate_distortion": compression.quantize_rate_distortion,
}  # fmt: skip
BATCHES = [(torch.zeros(6, 4), torch.arange(6) % 3)]
NO_MODELS = {
    "nothing": None,
    "a name": "resnet18",
    "a class": nn.Linear,
    "weights": nn.Linear(4, 3).state_dict(),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_module_is_refused_by_every_function(call: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in NO_MODELS.values():
        with pytest.raises(InputError, match=r"must be an nn\.Module, found"):
            CALLS[call](value)


@pytest.mark.parametrize(
    "model", [nn.Sequential(), nn.ReLU(), nn.ModuleList(), nn.Linear(4, 3, dtype=torch.complex64)]
)
def test_models_without_units_to_remove_are_refused(model: nn.Module) -> None:
    with pytest.raises(InputError):
        compression.shrink(model, (4,), amount=0.4)
