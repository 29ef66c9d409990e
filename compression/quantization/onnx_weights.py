"""How integer weights stand in an ONNX file, so that what runs it computes what the graph computes."""

from typing import Any

import numpy as np

LAST = -1  # the axis of the scales, counted from the end


def keep_activations(program: Any) -> None:
    """Give products with integer weights alone a form that ONNX Runtime does not round the activations of.

    From 1.23 on it makes DequantizeLinear and MatMul one MatMulNBits where the scales lie along axis 1, which
    rounds the activations to 8 bits unless session.qdq_matmulnbits_accuracy_level says otherwise: a small
    vision transformer agreed with its own graph within 37 dB instead of 120. Here the weights are stored
    transposed and their axis is counted from the end, which says the same by the standard and is no
    pattern of its. A product whose activations are integers too stays as it is.
    """
    for node in list(program.model.graph):
        weights = node.inputs[1].producer() if node.op_type == "MatMul" and node.inputs[1] else None
        source = node.inputs[0].producer() if weights is not None and node.inputs[0] else None
        if weights is not None and not _dequantizes(source):
            _store_transposed(node, weights)


def _dequantizes(node: Any) -> bool:
    """Whether a node makes floats of integers; None, where a value is an input, does not."""
    return node is not None and node.op_type == "DequantizeLinear"


def _store_transposed(product: Any, transpose: Any) -> None:
    """Let a product take its weights from integers that lie as it needs them, where they do not."""
    if transpose.op_type != "Transpose" or not _dequantizes(transpose.inputs[0].producer()):
        return
    dequantize = transpose.inputs[0].producer()
    integers, outputs = dequantize.inputs[0], dequantize.outputs[0]
    alone = all(len(value.uses()) == 1 for value in (integers, outputs, transpose.outputs[0]))
    per_channel = "axis" in dequantize.attributes and dequantize.attributes["axis"].as_int() == 0
    if integers.const_value is None or len(integers.shape) != 2 or not (alone and per_channel):
        return
    import onnx_ir

    stored = np.ascontiguousarray(integers.const_value.numpy().T)
    integers.const_value = onnx_ir.tensor(stored, name=integers.name)
    integers.shape = outputs.shape = onnx_ir.Shape(stored.shape)
    dequantize.attributes["axis"] = onnx_ir.AttrInt64("axis", LAST)
    product.replace_input_with(1, outputs)
    product.graph.remove(transpose, safe=True)
