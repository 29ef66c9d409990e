"""Which tensors of an exported graph become integers, in torchao's terms."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torchao.quantization.pt2e import (
    FakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    QuantizationConfig,
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)

WEIGHTED = (
    torch.ops.aten.linear.default, torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default,
    torch.ops.aten.conv3d.default,
)  # fmt: skip


def weight_spec(bits: int, *, trained: bool) -> QuantizationSpec:
    """Signed integers per output channel, symmetric about zero."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if trained:
        rounding = FakeQuantize.with_args(observer=MovingAveragePerChannelMinMaxObserver, eps=2**-12)
    else:
        rounding = PerChannelMinMaxObserver.with_args(eps=2**-12)
    return QuantizationSpec(
        dtype=torch.int8, observer_or_fake_quant_ctr=rounding, quant_min=low, quant_max=high,
        qscheme=torch.per_channel_symmetric, ch_axis=0,
    )  # fmt: skip


def quantizer_of(scheme: str, weight_bits: int, keep: Sequence[str]) -> Quantizer:
    """The quantizer of a scheme; layers named in `keep` stay in float."""
    if scheme == "weight-only":
        return WeightOnly(weight_spec(weight_bits, trained=False), keep)
    quantizer = X86InductorQuantizer()
    if scheme == "dynamic":
        settings = get_default_x86_inductor_quantization_config(is_dynamic=True)
        quantizer.set_module_type_qconfig(torch.nn.Linear, settings)
    elif scheme == "static":
        quantizer.set_global(get_default_x86_inductor_quantization_config())
    else:
        default = get_default_x86_inductor_quantization_config(is_qat=True)
        rounding = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, eps=2**-12)
        activations = QuantizationSpec(
            dtype=torch.uint8, quant_min=0, quant_max=255, qscheme=torch.per_tensor_affine,
            observer_or_fake_quant_ctr=rounding,
        )  # fmt: skip
        weights = default.weight if weight_bits == 8 else weight_spec(weight_bits, trained=True)
        quantizer.set_global(QuantizationConfig(activations, activations, weights, None, True))
    for name in keep:
        quantizer.set_module_name_qconfig(name, None)
    return quantizer


class WeightOnly(Quantizer):
    """Annotates the weights of dense and convolutional layers and nothing else."""

    def __init__(self, spec: QuantizationSpec, keep: Sequence[str]) -> None:
        super().__init__()
        self.spec, self.keep = spec, set(keep)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        for node in model.graph.nodes:
            if node.target in WEIGHTED and not self._kept(node):
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={node.args[1]: self.spec}, _annotated=True
                )
        return model

    def _kept(self, node: fx.Node) -> bool:
        stack: dict[str, Any] = node.meta.get("nn_module_stack", {})
        paths = [str(path).removeprefix("L['self'].") for path, _ in stack.values()]
        return any(path in self.keep for path in paths)

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to refuse: whatever is not annotated stays in float."""
