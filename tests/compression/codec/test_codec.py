"""encode() and decode(): bit-exact round trips, sizes near entropy, damaged and hostile files."""

import os
import random
import struct
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from running import run_script
from torch import nn

from analysis.lab.models import create
from capacity import InputError
from compression.codec import HEADER, coding_report, decode, encode
from compression.codec.compiled_model import kernels
from compression.codec.context_model import (
    BitCounter,
    ContextParameters,
    Decoder,
    Encoder,
    code_matrix,
    traits_of,
)
from compression.codec.reader import PART
from compression.codec.records import bit_patterns, plan_of, symbols_of
from compression.criteria import L1
from compression.pruning import prune
from compression.sharing import share_weights
from compression.shrinking.sorting import sort_units


def sparse(model: nn.Module, density: float, values: int, seed: int = 0) -> nn.Module:
    """Few non-zero weights, of few values in half precision, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            kept = torch.rand(parameter.shape, generator=generator) < density
            index = torch.randint(values, parameter.shape, generator=generator)
            book = torch.randn(values, generator=generator).half().float()
            parameter.copy_(kept * book[index])
    return model


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(
        a == b and x.dtype == y.dtype and bytes(_bytes(x)) == bytes(_bytes(y)) for (a, x), (b, y) in pairs
    )


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    tensor = (
        torch.where(tensor == 0, torch.zeros_like(tensor), tensor) if tensor.is_floating_point() else tensor
    )
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy()


@pytest.mark.parametrize(
    ("name", "size"), [("lenet5", (1, 28, 28)), ("lenet300", (1, 28, 28)), ("resnet20", (3, 32, 32))]
)
def test_the_very_same_weights_come_back(name: str, size: tuple[int, ...], tmp_path: Path) -> None:
    model = sparse(create(name, input_size=size, classes=10), 0.05, 12)
    written = encode(model, tmp_path / "net.dcz")
    assert written == (tmp_path / "net.dcz").stat().st_size == len(os.listdir(tmp_path)) * written
    found = decode(tmp_path / "net.dcz", create(name, input_size=size, classes=10))
    assert same(found, model)
    report = coding_report(model)
    assert 0 <= written - report.file_bytes <= 8 + 1e-3 * written  # the coder has 24 bits of precision
    parameters = [row for row in report.tensors if row.kind in ("grid", "half", "book")]
    coded = sum(row.position_bytes + row.value_bytes for row in parameters)
    assert coded < 1.03 * sum(row.entropy_bytes for row in parameters) + 60


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 0.84), (torch.bfloat16, 0.68)])
def test_dense_floats_lose_the_bits_of_their_exponents(
    dtype: torch.dtype, share: float, tmp_path: Path
) -> None:
    model = create("resnet20", input_size=(3, 32, 32), classes=10).to(dtype)
    written = encode(model, tmp_path / "net.dcz")
    plain = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    assert written <= share * plain and (tmp_path / "net.dcz").read_bytes()[3] == 3
    other = create("resnet20", input_size=(3, 32, 32), classes=10).to(dtype)
    assert same(decode(tmp_path / "net.dcz", other), model)
    assert coding_report(model).file_bytes == pytest.approx(written, abs=8)


def written_model(inputs: int, every: int) -> nn.Linear:
    """The weights of the files beside this test, by a formula: one of so many is not zero."""
    model = nn.Linear(inputs, 32)
    place = torch.arange(32 * inputs)
    values = (place * 7919 % 10_007 - 5003) / 10_007
    with torch.no_grad():
        model.weight.copy_(torch.where(place % every == 0, values, 0).view(32, inputs))
        model.bias.copy_(torch.arange(32) / 3)
    return model


@pytest.mark.parametrize(("version", "inputs", "every"), [(1, 40, 1), (2, 9000, 971)])
def test_files_of_earlier_versions_still_decode(version: int, inputs: int, every: int) -> None:
    """Written before raw bytes were packed, and before long rows were folded."""
    path = Path(__file__).parent / f"version-{version}.dcz"
    assert path.read_bytes()[3] == version
    model = written_model(inputs, every)
    assert same(decode(path, nn.Linear(inputs, 32)), model)


class Mixed(nn.Module):
    """Every kind of record, tied weights, and types that a state dict may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(6, 5)
        self.second.weight = self.first.weight
        book = torch.tensor([0.1, -0.3, float("nan"), float("inf"), 1e-40])
        self.odd = nn.Parameter(book[torch.randint(5, (300, 7))])
        self.doubles = nn.Parameter(torch.tensor([1 / 3, 0.0, -2.5], dtype=torch.float64).repeat(40))
        self.brain = nn.Parameter(torch.randn(9).bfloat16())
        self.register_buffer("integers", torch.randint(-8, 8, (40, 30), dtype=torch.int8))
        self.register_buffer("flags", torch.rand(64) < 0.1)
        self.register_buffer("steps", torch.tensor(123_456_789_012))
        self.register_buffer("negative", torch.tensor(-3))
        self.register_buffer("nothing", torch.zeros(0, 4))
        self.register_buffer("zeros", torch.zeros(50))
        self.register_buffer("halves", torch.randn(100).half().float())
        kept = torch.rand(80, 90) < 0.1
        self.sparse = nn.Parameter(kept * torch.randn(80, 90))
        self.sparse_halves = nn.Parameter(kept * torch.randn(80, 90).half().float())
        self.register_buffer("waves", torch.randn(3, dtype=torch.complex64))


def test_every_kind_of_tensor(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Mixed()
    encode(model, tmp_path / "net.dcz")
    kinds = {row.name: row.kind for row in coding_report(model).tensors}
    expected = {
        "first.weight": "raw", "second.weight": "tied", "odd": "book", "integers": "grid", "steps": "count",
        "zeros": "zero", "halves": "raw_half", "nothing": "raw", "waves": "raw", "sparse": "sparse",
        "sparse_halves": "sparse_half",
    }  # fmt: skip
    assert {name: kinds[name] for name in expected} == expected
    torch.manual_seed(1)
    found = decode(tmp_path / "net.dcz", Mixed())
    assert same(found, model) and found.first.weight is found.second.weight


def test_masks_are_folded_and_negative_zeros_cost_nothing(tmp_path: Path) -> None:
    model = create("lenet300", input_size=(1, 28, 28), classes=10)
    masked = share_weights(prune(model, L1(), amount=0.95, unit="weight").model, bits=4).model
    folded = create("lenet300", input_size=(1, 28, 28), classes=10)
    folded.load_state_dict(masked.state_dict())
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.copy_(torch.where(parameter == 0, -0.0, parameter))
    assert encode(masked, tmp_path / "a.dcz") == encode(folded, tmp_path / "b.dcz")
    x = torch.randn(4, 1, 28, 28)
    assert torch.equal(decode(tmp_path / "a.dcz", model)(x), masked(x))


def test_a_file_is_read_into_weights_in_any_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = sparse(nn.Sequential(nn.Conv2d(16, 48, 3), nn.Flatten(), nn.Linear(1536, 96)), 0.3, 9)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert model[2].weight.numel() > 2 * PART
    encode(model, tmp_path / "net.dcz")
    other = nn.Sequential(nn.Conv2d(16, 48, 3), nn.Flatten(), nn.Linear(1536, 96))
    other = other.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = decode(tmp_path / "net.dcz", other)
    assert found[0].weight.is_contiguous(memory_format=torch.channels_last) and same(found, model)
    assert not same(other, model) and all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_ties_are_those_of_the_file_whatever_the_model_shares(tmp_path: Path) -> None:
    def three() -> nn.Sequential:
        return nn.Sequential(*(nn.Linear(40, 40, bias=False) for _ in range(3)))

    torch.manual_seed(0)
    source, target = three(), three()
    source[2].weight, target[1].weight = source[0].weight, target[0].weight
    encode(source, tmp_path / "net.dcz")
    found = decode(tmp_path / "net.dcz", target)
    assert torch.equal(found[2].weight, source[2].weight) and torch.equal(found[1].weight, source[1].weight)


def test_views_that_conjugate_or_negate_are_numbers_too(tmp_path: Path) -> None:
    model = nn.Module()
    z = torch.randn(30, dtype=torch.complex64)
    model.register_buffer("conjugate", z.conj())
    model.register_buffer("negative", z.conj().imag)
    encode(model, tmp_path / "net.dcz")
    other = nn.Module()
    other.register_buffer("conjugate", torch.zeros(30, dtype=torch.complex64))
    other.register_buffer("negative", torch.zeros(30))
    found = decode(tmp_path / "net.dcz", other)
    assert torch.equal(found.conjugate, z.conj().resolve_conj()) and torch.equal(found.negative, -z.imag)


def test_code_that_runs_when_a_state_is_saved_runs_on_a_copy(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        saves = 0

        def get_extra_state(self) -> int:
            self.saves = self.saves + 1
            return self.saves

        def set_extra_state(self, state: int) -> None:
            pass

    model = nn.Sequential(Counting(4, 4), nn.Linear(4, 4))
    model[1].register_state_dict_pre_hook(lambda module, prefix, keep: setattr(module, "touched", True))
    encode(model, tmp_path / "net.dcz")
    assert model[0].saves == 0 and not hasattr(model[1], "touched")


@pytest.mark.parametrize("compiled", [True, False])
def test_weights_that_change_while_they_are_read_are_refused(compiled: bool, monkeypatch) -> None:
    if compiled and kernels() is None:
        pytest.skip("takes numba")
    monkeypatch.setattr(
        "compression.codec.records.kernels_for", lambda *_, **__: kernels() if compiled else None
    )
    weight = {"w": torch.tensor([[0.0, 0.5, -0.25] * 400])}
    plan = plan_of(weight, "w")
    later = torch.where(weight["w"] == 0.5, 3.0, weight["w"])
    with pytest.raises(InputError, match="changed while they were read"):
        symbols_of(bit_patterns(later), plan, later)
    with pytest.raises(ValueError, match="a symbol of 7, where the code book has 2 values"):
        every = np.ones(3, np.int64)
        code_matrix(BitCounter(), (1, 3), every[:2], every, ContextParameters(), np.array([[1, 7, 0]]))


def test_a_fresh_process_reads_the_file(tmp_path: Path) -> None:
    model = sparse(create("lenet5", input_size=(1, 28, 28), classes=10), 0.02, 8).eval()
    encode(model, tmp_path / "net.dcz")
    x = torch.randn(3, 1, 28, 28)
    np.save(tmp_path / "x.npy", x.numpy())
    script = (
        "import sys, numpy, torch\n"
        "from analysis.lab.models import create\n"
        "from compression.codec import decode\n"
        "model = create('lenet5', input_size=(1, 28, 28), classes=10)\n"
        "folder = sys.argv[1]\n"
        "x = torch.from_numpy(numpy.load(folder + '/x.npy'))\n"
        "y = decode(folder + '/net.dcz', model).eval()(x)\n"
        "numpy.save(folder + '/y.npy', y.detach().numpy())\n"
    )
    run_script(script, str(tmp_path)).check_returncode()
    assert np.array_equal(np.load(tmp_path / "y.npy"), model(x).detach().numpy())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40), columns=st.integers(1, 60), letters=st.integers(1, 30),
    density=st.floats(0, 1), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_matrix_comes_back(rows: int, columns: int, letters: int, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, columns)) < density
    values = (kept * rng.integers(1, letters + 1, (rows, columns))).astype(np.int32)
    alive = (rng.random(columns) < 0.5).astype(np.int64)
    encoder, meter = Encoder(), BitCounter()
    facts = ((rows, columns), rng.integers(1, 3, letters), alive)
    traits = ContextParameters(
        int(rng.integers(-2, 14)), int(rng.integers(-2, 14)), int(rng.integers(0, columns + 1))
    )
    for coder in (encoder, meter):
        code_matrix(coder, *facts, traits, values)
    words = encoder.words()
    assert np.array_equal(code_matrix(Decoder(words), *facts, traits, None), values)
    assert abs(32 * len(words) - meter.position_bits - meter.symbol_bits) <= 64 + 1e-3 * 32 * len(words)


def test_uneven_rows_and_columns_cost_less_than_scattered_ones() -> None:
    rng = np.random.default_rng(0)
    shape = (300, 400)
    uneven = rng.random(shape) < 0.2 * rng.random(shape[0])[:, None] ** 3 * rng.random(shape[1]) ** 3
    scattered = rng.permutation(uneven.reshape(-1)).reshape(shape)
    share = uneven.mean()
    entropy = -uneven.size * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
    bits = []
    for mask in (uneven, scattered):
        meter = BitCounter()
        code_matrix(
            meter, shape, np.ones(1, np.int64), np.ones(400, np.int64), traits_of(mask), mask.astype(np.int32)
        )
        bits.append(meter.position_bits)
    assert bits[0] < 0.85 * entropy and bits[1] < 1.05 * entropy + 60


def test_patches_cost_less_than_scattered_weights() -> None:
    """Kernels of 5 x 5 of which some hold anything, in rows: neighbours across and, by the stride, down."""
    rng = np.random.default_rng(0)
    kernels = (rng.random((60, 40, 1, 1)) < 0.1) & (rng.random((60, 40, 5, 5)) < 0.6)
    patches = kernels.reshape(60, 1000)
    scattered = rng.permutation(patches.reshape(-1)).reshape(patches.shape)
    bits = []
    traits, without = traits_of(patches), traits_of(scattered)
    for mask, told in ((patches, traits), (patches, replace(traits, stride=0)), (scattered, without)):
        meter = BitCounter()
        every = np.ones(1000, np.int64)
        code_matrix(meter, mask.shape, every[:1], every, told, mask.astype(np.int32))
        bits.append(meter.position_bits)
    assert bits[0] < 0.9 * bits[1] < 0.8 * bits[2]
    assert 2 <= traits.stride < 25 and without.stride == 0


@pytest.fixture(scope="module", params=[False, True], ids=["as it fell", "sorted"])
def small(request, tmp_path_factory) -> tuple[nn.Module, Path]:
    """A network and its file; sorted units are written in an order that holds bytes."""
    model = sparse(nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4)), 0.3, 5)
    if request.param:
        model = sort_units(model, (20,)).model
    path = tmp_path_factory.mktemp("codec") / "net.dcz"
    encode(model, path)
    return model, path


def test_bad_files_are_refused(small, tmp_path: Path) -> None:
    model, path = small
    content = path.read_bytes()
    wrong = {
        "not a file that encode wrote": b"PK" + content[2:],
        "format version 9": content[:3] + b"\x09" + content[4:],
        "checksum": content[:-1],
        "cannot be read": None,
    }
    for message, bad in wrong.items():
        bad_path = tmp_path / "bad.dcz"
        bad_path.unlink(missing_ok=True)
        if bad is not None:
            bad_path.write_bytes(bad)
        with pytest.raises(InputError, match=message):
            decode(bad_path, model)
    with pytest.raises(InputError, match="another architecture"):
        decode(path, nn.Linear(20, 32))


def test_what_is_no_plain_file_is_not_read(small, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless", "."):
        with pytest.raises(InputError, match="is no file"):
            decode(tmp_path / name, small[0])
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="not a file that encode wrote"):
        decode(tmp_path / "sparse", small[0])


def test_a_model_without_values_is_refused_by_name(small, tmp_path: Path) -> None:
    empty = nn.Sequential(nn.Linear(3, 2, device="meta"))
    for call in (partial(encode, empty, tmp_path / "x.dcz"), partial(decode, small[1], empty)):
        with pytest.raises(InputError, match=r"'0.weight' lies on the meta device"):
            call()
    with pytest.raises(InputError, match=r"'0.weight' lies on the meta device"):
        coding_report(empty)


def mutations(content: bytes, count: int, rng: random.Random):
    for _ in range(count):
        bad = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            how, at = rng.randrange(4), rng.randrange(len(bad))
            if how == 0:
                bad[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                bad[at] = rng.randrange(256)
            elif how == 2:
                del bad[at:]
            else:
                bad[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
            if not bad:
                bad = bytearray(b"\0")
        yield bytes(bad)


def fuzz(model: nn.Module, path: Path, count: int, tmp_path: Path) -> None:
    rng = random.Random(0)
    content, bad_path = path.read_bytes(), tmp_path / "bad.dcz"
    for bad in mutations(content, count, rng):
        if bad == content:
            continue
        bad_path.write_bytes(bad)
        with pytest.raises(InputError):
            decode(bad_path, model)


def fuzz_behind_the_checksum(model: nn.Module, path: Path, count: int, tmp_path: Path) -> None:
    """What a hostile writer can do: a whole file that decodes to some weights, or an InputError."""
    rng = random.Random(1)
    content, bad_path = path.read_bytes(), tmp_path / "bad.dcz"
    for body in mutations(content[HEADER:], count, rng):
        rest = content[8:HEADER] + body
        bad_path.write_bytes(content[:4] + struct.pack("<I", zlib.crc32(rest)) + rest)
        try:
            found = decode(bad_path, model)
        except InputError:
            continue
        assert [p.shape for p in found.parameters()] == [p.shape for p in model.parameters()]


def test_mutated_files(small, tmp_path: Path) -> None:
    fuzz(*small, 1_000, tmp_path)
    fuzz_behind_the_checksum(*small, 500, tmp_path)


@pytest.mark.slow
def test_a_hundred_thousand_mutated_files(small, tmp_path: Path) -> None:
    fuzz(*small, 100_000, tmp_path)
    fuzz_behind_the_checksum(*small, 30_000, tmp_path)


def test_the_table(small) -> None:
    report = coding_report(small[0])
    assert str(report).splitlines()[0].startswith(f"{report.dense_bytes:,} -> ")
    assert list(report.to_frame()["name"]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert "toprule" in report.to_latex()
