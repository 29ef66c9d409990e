"""Pictures of every kind as three bytes to a pixel: depth, transparency, palettes and inks; or refused."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from capacity.errors import InputError
from compression.storage import require_plain

if TYPE_CHECKING:
    from PIL.Image import Image

PLAIN = ("RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "LAB")
FORMATS = ("PNG", "JPEG", "PPM", "BMP", "TIFF", "WEBP", "GIF")  # whatever a name says: no program is started
TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


def open_picture(path: str | Path) -> "Image":
    """A picture as its file has it, the first frame of several, decoded to the last byte."""
    from PIL import Image

    with Image.open(require_plain(path), formats=FORMATS) as picture:
        picture.load()
        copied = picture.copy()
        copied.format = picture.format
        return copied


def as_bytes(picture: "Image") -> Tensor:
    """(3, height, width) bytes of a picture.

    16-bit grey is divided by 257, so that the brightest becomes 255; floats must lie in [0, 1] or be whole
    numbers up to 255. Transparent pictures are laid over white; palettes and inks become red, green and blue.

    Raises InputError for a range that says nothing about brightness, and for a mode that is not known.
    """
    from PIL import Image

    if picture.mode in TRANSPARENT or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer).convert("RGB")
    if picture.mode in PLAIN:
        pixels = np.asarray(picture.convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()
    sixteen = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")
    if sixteen or picture.mode == "F":
        grey = torch.from_numpy(_grey(np.asarray(picture)))
        return grey.expand(3, *grey.shape).contiguous()
    raise InputError(
        f"pictures of mode {picture.mode!r} do not say how bright their numbers are; save them as RGB, or as "
        f"8 or 16 bits of grey"
    )


def _grey(values: np.ndarray) -> np.ndarray:
    """Bytes of 16-bit or float brightness."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if low >= 0 and high <= 1:
            return np.asarray(np.rint(255 * values), dtype=np.uint8)
        if low >= 0 and high <= 255 and (values == np.rint(values)).all():
            return values.astype(np.uint8)
        raise InputError(f"its floats run from {low:g} to {high:g}; scale them to [0, 1]")
    return np.rint(values / 257).astype(np.uint8)
