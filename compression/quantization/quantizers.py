"""Which tensors of an exported graph become integers, in torchao's terms."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import fx
from torchao.quantization.granularity import PerGroup
from torchao.quantization.pt2e import (
    FakeQuantize,
    HistogramObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
)
from torchao.quantization.pt2e._affine_quantization import AffineQuantizedMinMaxObserver
from torchao.quantization.pt2e.observer import MappingType
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    QuantizationConfig,
    X86InductorQuantizer,
)

from compression.counting import SMALLEST_SCALE

DENSE = (torch.ops.aten.linear.default,)
TURNED = (
    torch.ops.aten.conv_transpose1d.default, torch.ops.aten.conv_transpose2d.input,
    torch.ops.aten.conv_transpose3d.input,
)  # fmt: skip
COMPUTED = (
    *DENSE, torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default, torch.ops.aten.conv3d.default,
)  # fmt: skip
WEIGHTED = (*COMPUTED, *TURNED)  # no integer kernel computes the turned ones


def integer_range(bits: int) -> tuple[int, int]:
    """The least and the greatest signed integer of so many bits."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def scales_of(units: torch.Tensor, bits: int, group_size: int | None) -> torch.Tensor:
    """The scale of each unit of a weight (units, inputs, ...), or (units, groups) of them, as in a graph."""
    low, high = integer_range(bits)
    observer = (
        GridPerChannelObserver(
            dtype=torch.int8, quant_min=low, quant_max=high, qscheme=torch.per_channel_symmetric,
            ch_axis=0, eps=SMALLEST_SCALE,
        )
        if group_size is None
        else group_spec(bits, group_size).observer_or_fake_quant_ctr()
    )  # fmt: skip
    observer(units)
    scales: torch.Tensor = observer.calculate_qparams()[0]
    return scales


def weight_spec(bits: int, *, trained: bool) -> QuantizationSpec:
    """Signed integers per output channel, symmetric about zero."""
    low, high = integer_range(bits)
    if trained:
        rounding = FakeQuantize.with_args(observer=MovingAveragePerChannelMinMaxObserver, eps=SMALLEST_SCALE)
    else:
        rounding = GridPerChannelObserver.with_args(eps=SMALLEST_SCALE)
    return QuantizationSpec(
        dtype=torch.int8, observer_or_fake_quant_ctr=rounding, quant_min=low, quant_max=high,
        qscheme=torch.per_channel_symmetric, ch_axis=0,
    )  # fmt: skip


def activation_spec(observer: Any, *, dynamic: bool = False) -> QuantizationSpec:
    """Unsigned integers of 8 bits per tensor, over the range that an observer finds."""
    return QuantizationSpec(
        dtype=torch.uint8, observer_or_fake_quant_ctr=observer, quant_min=0, quant_max=255,
        qscheme=torch.per_tensor_affine, is_dynamic=dynamic,
    )  # fmt: skip


def group_spec(bits: int, group_size: int) -> QuantizationSpec:
    """Signed integers, symmetric about zero, with a scale for each group of weights of an output."""
    low, high = integer_range(bits)
    rounding = GroupObserver.with_args(
        mapping_type=MappingType.SYMMETRIC_NO_CLIPPING_ERR, target_dtype=torch.int8,
        granularity=PerGroup(group_size), quant_min=low, quant_max=high, eps=SMALLEST_SCALE,
    )  # fmt: skip
    return QuantizationSpec(
        dtype=torch.int8, observer_or_fake_quant_ctr=rounding, quant_min=low, quant_max=high
    )


def blocks_of(shape: Sequence[int], group_size: int) -> list[int]:
    """Shape of the groups of a weight: as many whole kernels of one output as fit into `group_size`.

    Their number divides the inputs; a kernel larger than the group is a group of its own.

    >>> blocks_of((64, 128), 32), blocks_of((16, 6, 3, 3), 32), blocks_of((16, 6, 7, 7), 32)
    ([1, 32], [1, 3, 3, 3], [1, 1, 7, 7])
    """
    inputs, kernel = shape[1], list(shape[2:])
    most = max(1, group_size // prod(kernel))
    together = max(count for count in range(1, inputs + 1) if inputs % count == 0 and count <= most)
    return [1, together, *kernel]


class GroupObserver(AffineQuantizedMinMaxObserver):
    """torchao's observer for groups that need not be of exactly the size asked for, without zero points.

    Each end of a group's range is represented: in a small group it is no outlier that may be clipped.
    """

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        self.block_size = blocks_of(weight.shape, self.granularity.group_size)
        self.original_dtype = weight.dtype
        grouped = weight.detach().reshape(weight.shape[0], weight.shape[1] // self.block_size[1], -1)
        self.grouped = grouped
        return weight

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        lowest, highest = self.grouped.amin(2), self.grouped.amax(2)
        scale = torch.maximum(lowest / self.quant_min, highest / self.quant_max).clamp(min=self.eps)
        scale = own_scale(self.grouped, scale, (self.quant_min, self.quant_max))
        return scale, torch.zeros_like(scale, dtype=torch.int8)


class GridPerChannelObserver(PerChannelMinMaxObserver):
    """torchao's observer of weights by channel, which leaves weights that lie on a grid where they are.

    By "PerChannel" in an observer's name torchao tells that it takes the axis of a specification.
    """

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        self.rows = weight.detach().movedim(self.ch_axis, 0).flatten(1)
        observed: torch.Tensor = super().forward(weight)
        return observed

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        scale, zero = super().calculate_qparams()
        return own_scale(self.rows, scale, (self.quant_min, self.quant_max)), zero


def own_scale(weights: torch.Tensor, scale: torch.Tensor, ends: tuple[int, int]) -> torch.Tensor:
    """The scale of each row (..., n) of which all its weights are multiples within the ends, or `scale`.

    >>> rows = torch.tensor([[0.25, -0.5, 0.0], [0.25, -0.35, 0.0]])
    >>> own_scale(rows, torch.tensor([0.1, 0.1]), (-8, 7)).tolist()
    [0.25, 0.05000000074505806]
    """
    magnitudes = weights.abs()
    sizes = torch.where(weights == 0, torch.inf, magnitudes).amin(-1)
    if not (magnitudes.amax(-1) <= (max(map(abs, ends)) + 1) * sizes).any():
        return scale  # no row's smallest weight goes often enough into its largest, as of trained floats
    for part in range(5, 0, -1):
        step = sizes / part
        multiples = weights / step[..., None]
        near = (multiples - multiples.round()).abs().amax(-1) < 1e-3
        within = (multiples.amin(-1) > ends[0] - 0.5) & (multiples.amax(-1) < ends[1] + 0.5)
        scale = torch.where(near & within & torch.isfinite(step) & (step >= SMALLEST_SCALE), step, scale)
    return scale


def quantizer_of(
    scheme: str, weight_bits: int, keep: Sequence[str], group_size: int | None = None
) -> Quantizer:
    """The quantizer of a scheme; layers named in `keep` stay in float."""
    if scheme == "weight-only":
        spec = weight_spec(weight_bits, trained=False)
        grouped = None if group_size is None else group_spec(weight_bits, group_size)
        return Weights(spec, keep, grouped=grouped)
    trained = scheme == "aware"
    weights = weight_spec(weight_bits, trained=trained)
    if scheme == "dynamic":
        activations = activation_spec(PlaceholderObserver.with_args(eps=SMALLEST_SCALE), dynamic=True)
        return Weights(weights, keep, operations=DENSE, activation=activations)
    activations = activation_spec(
        FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, eps=SMALLEST_SCALE)
        if trained
        else HistogramObserver.with_args(eps=SMALLEST_SCALE)
    )
    return Activations(QuantizationConfig(activations, activations, weights, None, trained), keep)


def stays_float(node: fx.Node, keep: set[str]) -> bool:
    """Is the operation part of a module that stays in float?"""
    stack: dict[str, Any] = node.meta.get("nn_module_stack", {})
    return any(str(path).removeprefix("L['self'].") in keep for path, _ in stack.values())


class Activations(X86InductorQuantizer):
    """torchao's own for weights and activations, with the products that it does not see.

    Those of attention, of functional calls, and convolutions in one and three dimensions; weights that
    something else reads in float stay in float, and integers such as positions are left as they are. Where
    torchao's search for patterns fails, on a module of which nothing is read or that is called twice, or on
    a sum with a number, all products are annotated one by one.
    """

    def __init__(self, config: QuantizationConfig, keep: Sequence[str]) -> None:
        super().__init__()
        self.config, self.keep = config, set(keep)
        self.set_global(config)
        for name in keep:
            self.set_module_name_qconfig(name, None)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        try:
            model = super().annotate(model)
        except (AssertionError, IndexError, ValueError):
            for node in model.graph.nodes:
                node.meta.pop("quantization_annotation", None)
        _leave_integers(model)
        for node in model.graph.nodes:
            if (
                node.target in COMPUTED
                and "quantization_annotation" not in node.meta
                and not stays_float(node, self.keep)
            ):
                source, weight, *_ = node.args
                if weight.op == "get_attr":
                    node.meta["quantization_annotation"] = QuantizationAnnotation(
                        input_qspec_map={source: self.config.input_activation, weight: self.config.weight},
                        _annotated=True,
                    )
        return _without_shared(model)


def _leave_integers(model: fx.GraphModule) -> None:
    """No ranges for positions, masks and counts, which torchao takes for activations."""
    for node in model.graph.nodes:
        annotation = node.meta.get("quantization_annotation")
        read = [node, *annotation.input_qspec_map] if annotation else []
        values = [other.meta.get("val") for other in read]
        if any(isinstance(value, torch.Tensor) and not value.is_floating_point() for value in values):
            del node.meta["quantization_annotation"]


def _without_shared(model: fx.GraphModule) -> fx.GraphModule:
    """Weights that an embedding, say, needs in float all the same stay in float: twice is more than once."""
    for node in model.graph.nodes:
        weight = node.args[1] if node.target in WEIGHTED else None
        if isinstance(weight, fx.Node) and any(user.target not in WEIGHTED for user in weight.users):
            node.meta.pop("quantization_annotation", None)
    return model


def groups_of(turned: fx.Node) -> int:
    """Groups of channels of a transposed convolution."""
    schema = turned.target._schema.arguments  # type: ignore[union-attr]
    place = [argument.name for argument in schema].index("groups")
    count = turned.args[place] if place < len(turned.args) else turned.kwargs.get("groups", 1)
    return int(count)  # type: ignore[arg-type]


class Weights(Quantizer):
    """Annotates the stored weights of some operations, wherever they are, and what enters them if asked."""

    def __init__(
        self,
        spec: QuantizationSpec,
        keep: Sequence[str],
        *,
        operations: Sequence[Any] = WEIGHTED,
        activation: QuantizationSpec | None = None,
        grouped: QuantizationSpec | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.keep, self.operations, self.activation = spec, set(keep), operations, activation
        self.grouped = grouped

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        for node in model.graph.nodes:
            if (
                node.target in self.operations
                and node.args[1].op == "get_attr"
                and not stays_float(node, self.keep)
            ):
                specs = {node.args[1]: self._spec_of(node)}
                if self.activation is not None:
                    specs[node.args[0]] = self.activation
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map=specs, _annotated=True
                )
        return _without_shared(model)

    def _spec_of(self, node: fx.Node) -> QuantizationSpec:
        """Per group of weights or per output channel, which transposed convolutions have second.

        Those never have groups of weights; where their channels lie in several, each input has a scale.
        """
        if node.target not in TURNED:
            return self.grouped or self.spec
        return replace(self.spec, ch_axis=0 if groups_of(node) > 1 else 1)

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to refuse: whatever is not annotated stays in float."""
