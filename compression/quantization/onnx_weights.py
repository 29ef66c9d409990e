"""How integer weights stand in an ONNX file, so that what runs it computes what the graph computes."""

from typing import Any

import numpy as np

LAST = -1  # the axis of the scales, counted from the end
LARGEST_COUNT = 2.0**30  # of steps in a bias, half of what 32 bits hold


def keep_activations(program: Any) -> None:
    """Give products with integer weights alone a form that ONNX Runtime does not round the activations of.

    From 1.23 on it makes DequantizeLinear and MatMul one MatMulNBits where the scales lie along axis 1, which
    rounds the activations to 8 bits unless session.qdq_matmulnbits_accuracy_level says otherwise: a small
    vision transformer agreed with its own graph within 37 dB instead of 120. Here the weights are stored
    transposed and their axis is counted from the end, which says the same by the standard and is no
    pattern of its. A product whose activations are integers too stays as it is.
    """
    for node in list(program.model.graph):
        if node.op_type == "MatMul" and not _dequantizes(node.inputs[0].producer()):
            _store_transposed(node, node.inputs[1].producer())


def _dequantizes(node: Any) -> bool:
    """Whether a node makes floats of integers; None, where a value is an input, does not."""
    return node is not None and node.op_type == "DequantizeLinear"


def _behind(node: Any) -> Any:
    """What a transpose turns; any other node itself."""
    return node.inputs[0].producer() if node is not None and node.op_type == "Transpose" else node


def _store_transposed(product: Any, transpose: Any) -> None:
    """Let a product take its weights from integers that lie as it needs them, where they do not."""
    dequantize = _behind(transpose)
    if dequantize is transpose or not _dequantizes(dequantize):
        return
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


def fit_biases(program: Any) -> None:
    """Give channels of faint weights steps in which ONNX Runtime can count their biases.

    It rounds biases to 32-bit multiples of the step of the inputs times that of the weights, which a bias
    beside zero or faint weights, or inputs, runs over. The larger step is 2^-30 of the bias for a step of the
    input: what the weights lose by it lies that far below the bias.
    """
    for node in list(program.model.graph):
        product, bias = _with_bias(node)
        if product is None:
            continue
        inputs, weights = product.inputs[0].producer(), _behind(product.inputs[1].producer())
        if _dequantizes(inputs) and _dequantizes(weights):
            _fit(program.model.graph, inputs, weights, _constant(bias))


def _with_bias(node: Any) -> tuple[Any, Any]:
    """A product and the value that is added to it; two times None where a node is neither."""
    if node.op_type in ("Conv", "Gemm") and len(node.inputs) > 2:
        return node, node.inputs[2]
    if node.op_type == "Add":
        for one, other in (node.inputs, node.inputs[::-1]):
            if one.producer() is not None and one.producer().op_type == "MatMul":
                return one.producer(), other
    return None, None


def _constant(value: Any) -> Any:
    """The numbers of a value that is known before the network runs; else None."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _fit(graph: Any, inputs: Any, weights: Any, bias: Any) -> None:
    """Replace the integers and steps of a weight where a bias would run over."""
    step, steps = _constant(inputs.inputs[1]), _constant(weights.inputs[1])
    integers = _constant(weights.inputs[0])
    if any(numbers is None for numbers in (step, steps, integers, bias)):
        return
    if step.size != 1 or steps.ndim != 1 or bias.shape != steps.shape:
        return
    least = np.abs(bias.astype(np.float64)) / (float(step.reshape(-1)[0]) * LARGEST_COUNT)
    if not (least > steps).any():
        return
    import onnx_ir

    fitted = np.maximum(least, steps).astype(np.float32)
    axis = weights.attributes["axis"].as_int() if "axis" in weights.attributes else 1
    shape = [-1 if place == axis % integers.ndim else 1 for place in range(integers.ndim)]
    share = (steps / fitted).reshape(shape)
    for place, numbers in enumerate((np.rint(integers * share).astype(integers.dtype), fitted)):
        name = f"{weights.outputs[0].name}_fitted_{place}"
        value = onnx_ir.Value(
            name=name, shape=onnx_ir.Shape(numbers.shape), type=weights.inputs[place].type,
            const_value=onnx_ir.tensor(numbers, name=name),
        )  # fmt: skip
        graph.register_initializer(value)
        weights.replace_input_with(place, value)
