"""A stream of bytes as it is or deflated, whichever is shorter, and a cursor that reads what was written.

Deflate is used for its Huffman codes, which adapt every 32,768 bytes and are read several times faster than
an arithmetic coder's; repeated strings are looked for only where a sample has some.
"""

import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
PLAIN, DEFLATED = 0, 1
HEADER = struct.Struct("<BI")  # how, and how many bytes
MOST_RATIO = 1032  # of bytes that a deflated one can stand for
SAMPLE = 2048  # bytes of each of four pieces that decide
WINDOW, MEMORY = -15, 9  # no header of its own; the most memory makes the longest blocks


def stream_of(data: Bytes) -> bytes:
    """A stream with its header."""
    body = _body(data.tobytes())
    return HEADER.pack(PLAIN if body is None else DEFLATED, data.nbytes if body is None else len(body)) + (
        data.tobytes() if body is None else body
    )


def _body(data: bytes) -> bytes | None:
    """What is deflated; None where nothing is gained."""
    steps = range(0, len(data), max(SAMPLE, len(data) // 4))
    sample = b"".join(data[start : start + SAMPLE] for start in steps)
    huffman, matches = len(_deflated(sample, zlib.Z_HUFFMAN_ONLY)), len(_deflated(sample))
    if min(huffman, matches) > 0.97 * len(sample):
        return None
    deflated = _deflated(data, zlib.Z_DEFAULT_STRATEGY if matches < 0.9 * huffman else zlib.Z_HUFFMAN_ONLY)
    return deflated if len(deflated) < len(data) else None


def _deflated(data: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    coder = zlib.compressobj(6, zlib.DEFLATED, WINDOW, MEMORY, strategy)
    return coder.compress(data) + coder.flush()


class Cursor:
    """Reads from bytes that nobody vouches for; raises ValueError where they make no sense."""

    def __init__(self, content: memoryview) -> None:
        self.content, self.at = content, 0

    def take(self, size: int) -> memoryview:
        """So many bytes."""
        if self.at + size > len(self.content):
            raise ValueError(f"it ends {self.at + size - len(self.content)} bytes too early")
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, kind: str) -> int:
        """An unsigned integer, `kind` as `struct` names it."""
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return int(value)

    def varint(self, most: int) -> int:
        """A number of 7 bits to the byte, lowest first, and no larger than this."""
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 63:
                raise ValueError("a number does not end")
        if value > most:
            raise ValueError(f"{value} where at most {most} is possible")
        return value

    def rest(self) -> memoryview:
        """All that is left."""
        return self.take(len(self.content) - self.at)

    def stream(self, size: int) -> Bytes:
        """What `stream_of` wrote, of so many bytes; no more than these are ever allocated."""
        how, length = HEADER.unpack(self.take(HEADER.size))
        body = self.take(length)
        if how == PLAIN and length == size:
            return np.frombuffer(body, dtype=np.uint8)
        if how != DEFLATED or size > MOST_RATIO * length:
            raise ValueError(f"a stream of {length} bytes cannot hold {size}")
        coder = zlib.decompressobj(WINDOW)
        try:
            plain = coder.decompress(body, size + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if len(plain) != size or not coder.eof or coder.unused_data:
            raise ValueError(f"a stream holds no {size} bytes")
        return np.frombuffer(plain, dtype=np.uint8)

    def end(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.content):
            raise ValueError(f"{len(self.content) - self.at} bytes are left over")


def narrow(values: NDArray[np.unsignedinteger], width: int) -> Bytes:
    """Numbers of 1, 2 or 4 bits, several to the byte: the first part of them in its lowest bits.

    >>> narrow(np.array([1, 2, 3], dtype=np.uint16), 4).tolist()
    [49, 2]
    """
    parts = 8 // width
    each = -(-len(values) // parts)
    filled = np.zeros((parts, each), dtype=np.uint8)
    filled.reshape(-1)[: len(values)] = values
    for part in range(1, parts):
        filled[0] |= filled[part] << np.uint8(part * width)
    packed: Bytes = filled[0]
    return packed


def widened(packed: Bytes, count: int, width: int) -> Bytes:
    """What `narrow` was given.

    >>> widened(np.array([49, 2], dtype=np.uint8), 3, 4).tolist()
    [1, 2, 3]
    """
    parts = 8 // width
    filled = np.empty((parts, len(packed)), dtype=np.uint8)
    for part in range(parts):
        np.right_shift(packed, np.uint8(part * width), out=filled[part])
    filled &= np.uint8(2**width - 1)
    return filled.reshape(-1)[:count]


Work = Callable[[int], None]


def in_threads(work: Work, count: int) -> None:
    """Call `work` with 0, 1, ..., in as many threads as torch uses; both zlib and numpy let others run."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    threads = min(torch.get_num_threads(), count)
    if threads < 2:
        for index in range(count):
            work(index)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass
