"""Integers of 8 or 4 bits: quantize, what of it is stored, its files, and the noise of rounding."""

from compression.quantization._quantize import (
    LAYERS,
    SCHEMES,
    compiled,
    convert,
    prepare,
    quantize,
)
from compression.quantization.files import export_onnx, load_quantized, save_quantized
from compression.quantization.results import QuantizedLayer, QuantizeResult, stored_bytes

__all__ = [
    "LAYERS",
    "SCHEMES",
    "QuantizeResult",
    "QuantizedLayer",
    "compiled",
    "convert",
    "export_onnx",
    "load_quantized",
    "prepare",
    "quantize",
    "save_quantized",
    "stored_bytes",
]
