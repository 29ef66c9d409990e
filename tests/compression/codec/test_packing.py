"""Dense tensors in planes: any bits of any type and shape come back, in few bytes, and nothing else does."""

import random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compression.codec.packing import pack
from compression.codec.streams import MOST_RATIO, Cursor, narrow, stream_of, widened
from compression.codec.unpacking import unpack
from compression.codec.words import BLOCK, Grid

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.int8, torch.uint8, torch.int16,
    torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64, torch.bool, torch.complex32,
    torch.complex64, torch.complex128,
]  # fmt: skip


def bits_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def from_bits(bits: np.ndarray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    flat = torch.from_numpy(bits.astype(np.uint8))
    if not len(flat):
        return torch.empty(shape, dtype=dtype)
    return (flat % 2 if dtype == torch.bool else flat).view(dtype).reshape(shape)


def drawn(dtype: torch.dtype, shape: tuple[int, ...], kind: str, seed: int) -> torch.Tensor:
    """Any bits at all, those of few values, or numbers of one size, some of them special."""
    rng, size = np.random.default_rng(seed), int(np.prod(shape)) * dtype.itemsize
    if kind == "any" or not dtype.is_floating_point:
        return from_bits(rng.integers(0, 256 if kind == "any" else 3, size), dtype, shape)
    numbers = torch.as_tensor(rng.normal(size=shape) * 10.0 ** rng.integers(-4, 4))
    found = numbers.to(torch.float32).to(dtype).reshape(shape)
    special = from_bits(rng.integers(0, 256, size), dtype, shape)
    return mixed(found, special, np.asarray(rng.random(shape) < (0.3 if kind == "special" else 0.01)))


def mixed(found: torch.Tensor, special: torch.Tensor, where: np.ndarray) -> torch.Tensor:
    """Bit for bit: torch.where takes no numbers of 8 bits."""
    if not found.numel():
        return found
    chosen = torch.from_numpy(np.broadcast_to(where[..., None], (*where.shape, found.dtype.itemsize)).copy())
    parts = [t.contiguous().reshape(-1).view(torch.uint8).reshape(chosen.shape) for t in (found, special)]
    return torch.where(chosen, parts[1], parts[0]).reshape(-1).view(found.dtype).reshape(found.shape)


@settings(max_examples=80, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES), shape=st.lists(st.integers(0, 24), max_size=4).map(tuple),
    kind=st.sampled_from(["any", "few", "weights", "special"]), seed=st.integers(0, 2**31),
    reversed_=st.booleans(),
)  # fmt: skip
@example(dtype=torch.float32, shape=(), kind="any", seed=0, reversed_=False)
@example(dtype=torch.bfloat16, shape=(0, 7), kind="any", seed=0, reversed_=True)
@example(dtype=torch.float32, shape=(19, 24, 24, 24), kind="any", seed=0, reversed_=False)  # two blocks
@example(dtype=torch.float64, shape=(24, 24, 24), kind="weights", seed=0, reversed_=True)
def test_any_bits_of_any_type_and_shape_come_back(
    dtype: torch.dtype, shape: tuple[int, ...], kind: str, seed: int, reversed_: bool
) -> None:
    tensor = drawn(dtype, shape, kind, seed)
    if reversed_:  # not contiguous
        tensor = tensor.permute(tuple(reversed(range(tensor.dim()))))
    content = pack(tensor)
    found = unpack(memoryview(content), tensor.dtype, tensor.shape)
    assert found.dtype == tensor.dtype and found.shape == tensor.shape
    assert bits_of(found) == bits_of(tensor)
    blocks = Grid.of(tensor.shape, 2 if tensor.is_complex() else 1).blocks
    assert len(content) <= tensor.nbytes + 1 + 5 * blocks  # flags, and of each block its length and its form


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_special_numbers_keep_their_bits(dtype: torch.dtype) -> None:
    """Quiet and signalling NaNs with payloads, zeros and infinities of both signs, the least subnormals."""
    size, info = dtype.itemsize, torch.finfo(dtype)
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
    named = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, info.tiny, -info.max], dtype=dtype).view(integer)
    nans = torch.tensor([torch.inf, -torch.inf], dtype=dtype).view(integer) + torch.tensor(
        [1, 77], dtype=integer
    )
    least = torch.tensor([1, 2], dtype=integer)
    odd = torch.cat([named, nans, least]).view(dtype)
    weights = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    weights.view(-1)[: len(odd)] = odd
    found = unpack(memoryview(pack(weights)), dtype, weights.shape)
    assert torch.equal(found.view(integer), weights.view(integer))


def gaussian_bits(mantissa: int) -> float:
    """Bits of a normal number of known scale: entropy log2(sqrt(2 pi e)) + mantissa - E[floor(log2 |x|)]."""
    exponents = np.arange(-60, 4)
    from scipy.stats import norm

    masses = 2 * (norm.cdf(2.0 ** (exponents + 1)) - norm.cdf(2.0**exponents))
    return float(0.5 * np.log2(2 * np.pi * np.e) + mantissa - (masses * exponents).sum())


@pytest.mark.parametrize(
    ("dtype", "mantissa", "share"),
    [(torch.bfloat16, 7, 0.66), (torch.float32, 23, 0.83), (torch.float16, 10, 0.85)],
)
def test_normal_weights_take_their_entropy(dtype: torch.dtype, mantissa: int, share: float) -> None:
    """Huffman codes cost 1 % at most, rows and columns of different scales a byte each."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(512, 1024, generator=generator) / 64
    scales = 2.0 ** torch.randint(-3, 3, (512, 1), generator=generator)
    scaled = weights * scales * 2.0 ** torch.randint(-3, 3, (1024,), generator=generator)
    plain, apart = (len(pack(each.to(dtype))) for each in (weights, scaled))
    bound = gaussian_bits(mantissa) / 8 * weights.numel()
    assert bound < plain < 1.01 * bound and plain < share * weights.numel() * dtype.itemsize
    assert apart < 1.005 * plain


def test_what_has_structure_takes_less() -> None:
    """Half precision kept in single, masks, constants and positions."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(400, 500, generator=generator)
    masked = weights.where(torch.rand(400, 500, generator=generator) < 0.1, 0.0)
    assert len(pack(weights.half().float())) < 0.5 * weights.nbytes
    assert len(pack(masked)) < 0.15 * weights.nbytes
    assert len(pack(torch.full((400, 500), 1.5))) < 0.05 * weights.nbytes
    assert len(pack(torch.arange(100_000))) < 0.05 * 800_000


def test_tensors_of_several_blocks() -> None:
    """Rows that do not fill the last block, rows longer than a block, and one long row."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((700, 999), (9, BLOCK + 1), (2 * BLOCK + 3,)):
        weights = torch.randn(shape, generator=generator).bfloat16()
        assert Grid.of(shape).blocks == -(-weights.numel() // Grid.of(shape).step) > 1
        assert bits_of(unpack(memoryview(pack(weights)), weights.dtype, shape)) == bits_of(weights)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=3000), copies=st.integers(1, 20), width=st.sampled_from([1, 2, 4]))
def test_streams_and_narrow_numbers_come_back(data: bytes, copies: int, width: int) -> None:
    array = np.frombuffer(data * copies, dtype=np.uint8)
    written = stream_of(array)
    cursor = Cursor(memoryview(written))
    assert cursor.stream(len(array)).tobytes() == array.tobytes()
    cursor.end()
    small = array % 2**width
    assert np.array_equal(widened(narrow(small, width), len(small), width), small)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_what_was_changed_is_refused_or_of_its_shape(dtype: torch.dtype) -> None:
    """No checksum guards these bytes here: whatever they say, no more is allocated than was asked for."""
    rng = random.Random(0)
    tensor = (100 * torch.randn(30, 40, generator=torch.Generator().manual_seed(0))).to(dtype)
    content = pack(tensor)
    refused = 0
    for _ in range(500):
        bad = bytearray(content)
        for _ in range(rng.choice((1, 2, 8))):
            bad[rng.randrange(min(len(bad), rng.choice((40, len(bad)))))] = rng.randrange(256)
        if rng.random() < 0.2:
            del bad[rng.randrange(len(bad)) :]
        try:
            found = unpack(memoryview(bytes(bad)), dtype, tensor.shape)
        except ValueError:
            refused += 1
            continue
        assert found.shape == tensor.shape and found.dtype == dtype
    assert refused > 100


def test_a_size_that_the_bytes_cannot_hold_is_refused_before_anything_is_allocated() -> None:
    content = memoryview(pack(torch.zeros(1000, 1000)))
    for shape in ((10**9, 10**9), (MOST_RATIO * len(content) // 4 + 1,)):
        with pytest.raises(ValueError, match="cannot hold"):
            unpack(content, torch.float32, shape)
