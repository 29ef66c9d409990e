"""Small files in MNIST's format."""

import struct
from pathlib import Path

import numpy as np


def write_idx(folder: Path, counts: tuple[int, int] = (40, 12)) -> None:
    """Random pictures with labels 0 to 9 in turn."""
    folder.mkdir(parents=True)
    for part, count in zip(("train", "t10k"), counts, strict=True):
        pictures = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">4I", 2051, count, 28, 28) + pictures.tobytes()
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, count) + labels.tobytes())
