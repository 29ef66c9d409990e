"""Kernels of the context model, compiled: the same bits as the arrays give, and a file without them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import run_script

from compression.codec import context_model
from compression.codec.compiled_model import SMALLEST_MATRIX, kernels, kernels_for
from compression.codec.context_model import (
    BitCounter,
    Decoder,
    Encoder,
    code_matrix,
    symbol_type,
    traits_of,
)

pytest.importorskip("numba")


def coded(model: type, coder: object, *arguments: object) -> np.ndarray:
    """What `code_matrix` does by this kind of model, whatever the matrix's size."""
    with pytest.MonkeyPatch.context() as patch:
        compiled = model is context_model._CompiledModel
        patch.setattr(context_model, "kernels_for", lambda _, **wide: kernels(**wide) if compiled else None)
        return code_matrix(coder, *arguments)  # type: ignore[arg-type]


@given(
    st.integers(1, 120), st.integers(1, 40), st.floats(0.0, 1.0), st.integers(1, 5), st.integers(0, 99),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_the_same_words_as_by_arrays(
    rows: int, columns: int, density: float, letters: int, seed: int, patched: bool
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(1, letters + 1, (rows, columns)).astype(np.int32)
    values *= generator.random((rows, columns)) < density
    if patched:
        values[:, ::3] = 0
    facts = (
        (rows, columns), generator.integers(1, 3, letters), generator.integers(0, 2, columns),
        traits_of(values != 0),
    )  # fmt: skip
    kind, words = symbol_type(letters), []
    for model in (context_model._Model, context_model._CompiledModel):
        encoder = Encoder()
        coded(model, encoder, *facts, values)
        words.append(encoder.words())
    assert np.array_equal(*words)
    for model in (context_model._Model, context_model._CompiledModel):
        encoder = Encoder()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(context_model, "BAND", 3 * columns)  # three rows at a time
            coded(model, encoder, *facts, lambda start, stop: values[start:stop].astype(kind))
        assert np.array_equal(encoder.words(), words[0])
    for model in (context_model._Model, context_model._CompiledModel):
        assert np.array_equal(coded(model, Decoder(words[0]), *facts, None), values)
    meters = [BitCounter(), BitCounter()]
    coded(context_model._Model, meters[0], *facts, values)
    coded(context_model._CompiledModel, meters[1], *facts, values)
    assert vars(meters[0]) == vars(meters[1])


def test_large_matrices_only_until_the_kernels_are_loaded() -> None:
    kernels.cache_clear()
    assert not kernels_for(SMALLEST_MATRIX - 1) and kernels_for(SMALLEST_MATRIX)
    assert kernels_for(1)


SCRIPT = """
import hashlib, os, resource, sys, torch
from torch import nn
SETUP
from compression.codec import compiled_model, coding_report, decode, encode
compiled_model.SMALLEST_MATRIX = 100_000
torch.manual_seed(0)
layer = nn.Linear(400, 300)
layer.weight.data = torch.where(layer.weight.abs() > 0.04, layer.weight.sign() / 4, 0.0)
assert coding_report(layer).file_bytes > 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
encode(layer, "net.dcz")
assert torch.equal(decode("net.dcz", layer).weight, layer.weight)
print(hashlib.sha256(open("net.dcz", "rb").read()).hexdigest(), compiled_model.kernels() is not None)
"""
SETUPS = {
    "as installed": ("", True),
    "not installed": ("sys.modules['numba'] = None", False),
    "for another NumPy": (
        "open('numba.py', 'w').write('raise ImportError()'); sys.path.insert(0, '')", False),
    "without its compiler": ("os.environ['NUMBA_DISABLE_JIT'] = '1'", False),
    "nowhere to keep them": (
        "os.environ['NUMBA_CACHE_DIR'] = os.path.abspath('cache')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)", True),
}  # fmt: skip


def test_files_are_the_same_with_numba_and_without(tmp_path: Path) -> None:
    digests = set()
    for name, (setup, compiled) in SETUPS.items():
        folder = tmp_path / name
        folder.mkdir()
        done = run_script(SCRIPT.replace("SETUP", setup), cwd=folder)
        assert done.returncode == 0, done.stderr[-2000:]
        digest, loaded = done.stdout.split()
        digests.add(digest)
        assert loaded == str(compiled), name
    assert len(digests) == 1


def test_values_that_cannot_be_written_are_only_read() -> None:
    values = np.ones((5, 5), np.int32)
    values.setflags(write=False)
    every = np.ones(5, np.int64)
    coded(context_model._CompiledModel, Encoder(), (5, 5), every[:1], every, traits_of(values != 0), values)
