"""Which weights reach what: marks that travel with every tensor of one forward pass, operation by operation.

A tensor that descends from parameters alone carries their names; one that descends from the input carries
the weights that were the last to multiply it, its front. Where a weight multiplies data, the front becomes
that weight. In a sum, a weight whose output feeds another one of the front is no longer in it: what a
shortcut carries past a layer is not a head of its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = frozenset(
    (
        "mm", "bmm", "mv", "dot", "matmul", "linear", "einsum", "tensordot", "bilinear", "_trilinear",
        "_grouped_mm", "_scaled_mm", "_int_mm", "mkldnn_linear", "convolution", "_convolution",
        "mkldnn_convolution", "cudnn_convolution", "miopen_convolution", "conv1d", "conv2d", "conv3d",
        "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "deform_conv2d", "embedding",
        "embedding_bag", "_embedding_bag", "_embedding_bag_forward_only", "mkldnn_rnn_layer", "_cudnn_rnn",
        "lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward",
    )
)  # fmt: skip
SUMS_OF_PRODUCTS = frozenset(("addmm", "addmv", "baddbmm", "addbmm", "_addmm_activation"))  # first one added
SUMS = frozenset(("add", "add_", "sub", "sub_", "rsub", "iadd", "isub", "radd"))
SHAPED = ("empty", "zeros", "ones", "full", "rand", "randn", "randint")  # only as large as their operand
FRESH = frozenset([f"{name}_like" for name in SHAPED] + [f"new_{name}" for name in SHAPED])
CACHES = ("past_key_values", "cache_params", "state", "mems")  # for the next call; no outputs
NORMALIZATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.PReLU,
)


@dataclass(frozen=True)
class Mark:
    """What a tensor descends from."""

    data: bool = False
    front: frozenset[str] = frozenset()  # weights that multiplied it last, if it is data
    weights: frozenset[str] = frozenset()  # parameters it is made of, if it is not


@dataclass
class Dataflow:
    """Edges between weights, and what multiplied data at all; parameters go by their full names."""

    sources: dict[str, set[str]] = field(default_factory=dict)
    outputs: dict[str, None] = field(default_factory=dict)

    def after(self, operation: str, operands: list[Mark]) -> Mark:
        """The mark of what an operation makes of its operands."""
        if operation in FRESH:
            return Mark()
        data = [mark for mark in operands if mark.data]
        if not data:
            return Mark(weights=frozenset().union(*(mark.weights for mark in operands)))
        front = frozenset().union(*(mark.front for mark in data))
        factors = operands[1:] if operation in SUMS_OF_PRODUCTS else operands
        if operation in PRODUCTS or operation in SUMS_OF_PRODUCTS:
            weights = frozenset().union(*(mark.weights for mark in factors if not mark.data))
            if weights:
                for name in weights:
                    self.sources.setdefault(name, set()).update(front)
                return Mark(True, weights)
        if operation in SUMS and len(front) > 1:
            front = self._last(front)
        return Mark(True, front)

    def _last(self, front: frozenset[str]) -> frozenset[str]:
        """Those of a front that feed no other one of it; in a loop, where each feeds the other, both."""
        before = {name: self._ancestors(name) for name in front}
        return frozenset(
            name
            for name in front
            if not any(name in before[other] and other not in before[name] for other in front)
        )

    def _ancestors(self, name: str) -> set[str]:
        ancestors: set[str] = set()
        stack = [name]
        while stack:
            new = self.sources.get(stack.pop(), set()) - ancestors
            ancestors |= new
            stack += new
        return ancestors

    def finish(self, marks: Iterable[Mark]) -> None:
        """Note the fronts of the model's outputs."""
        for mark in marks:
            self.outputs.update(dict.fromkeys(sorted(mark.front)))


class _Marking(TorchDispatchMode):
    """Within it, every operation's results are marked; views and in-place results by their storage."""

    def __init__(self, flow: Dataflow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flow = flow
        self.marks: dict[StorageWeakRef, Mark] = {}

    def mark(self, tensor: Tensor, mark: Mark) -> None:
        self.marks[StorageWeakRef(tensor.untyped_storage())] = mark

    def of(self, tensor: Tensor) -> Mark:
        return self.marks.get(StorageWeakRef(tensor.untyped_storage()), Mark())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        operation = func._schema.name.rpartition("::")[2]
        operands = [self.of(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        mark = self.flow.after(operation, operands)
        if mark != Mark():
            written = [
                argument
                for argument, place in zip(args, func._schema.arguments, strict=False)
                if place.alias_info is not None and place.alias_info.is_write and isinstance(argument, Tensor)
            ]
            for tensor in [*tree_leaves(result), *written]:
                if isinstance(tensor, Tensor):
                    self.mark(tensor, mark)
        return result


def flow_of_pass(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Dataflow:
    """The dataflow of one forward pass of a model, which must be the caller's own copy."""
    flow = Dataflow()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Marking(flow) as marking:
            for name, parameter in model.named_parameters():
                marking.mark(parameter, Mark(weights=frozenset([name])))
            for tensor in tensors_of((args, kwargs)):
                marking.mark(tensor, Mark(data=True))
            result = model(*args, **kwargs)
            flow.finish(marking.of(tensor) for tensor in tensors_of(result))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return flow


def flow_of_graph(model: nn.Module) -> Dataflow:
    """The same from a symbolic trace, which needs no input; raises what the tracer raises where it fails."""
    graph = fx.Tracer().trace(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    flow = Dataflow()
    marks: dict[fx.Node, Mark] = {}
    for node in graph.nodes:
        operands = [marks[value] for value in node.all_input_nodes]
        if node.op == "placeholder":
            marks[node] = Mark(data=True)
        elif node.op == "get_attr":
            tensor = model
            for key in node.target.split("."):
                tensor = getattr(tensor, key)
            marks[node] = Mark(weights=frozenset([names[id(tensor)]] if id(tensor) in names else []))
        elif node.op == "output":
            flow.finish(operands)
        elif node.op == "call_module":
            module = model.get_submodule(node.target)
            own = [names[id(p)] for p in module.parameters() if p.dim() > 1]
            if own and not isinstance(module, NORMALIZATIONS):
                operands = [*operands, Mark(weights=frozenset(own))]
                marks[node] = flow.after("linear", operands)
            else:
                marks[node] = flow.after("", operands)
        else:
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            marks[node] = flow.after(name, operands)
    return flow


def plain_name(model: nn.Module, name: str) -> str:
    """A parameter's name as its layer's code reads it: the weight that parametrizations or hooks compute.

    >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    >>> plain_name(layer, "parametrizations.weight.original")
    'weight'
    """
    name = re.sub(r"(^|\.)parametrizations\.(\w+)\.original\d*$", r"\1\2", name)
    path, _, key = name.rpartition(".")
    for suffix in ("_orig", "_g", "_v"):  # of torch's masks and norms by hook, which set a plain attribute
        base = key.removesuffix(suffix)
        if base != key and isinstance(vars(model.get_submodule(path)).get(base), Tensor):
            return name.removesuffix(suffix)
    return name


def tensors_of(value: Any) -> list[Tensor]:
    """Tensors in nested lists, tuples, mappings, dataclasses and distributions, in order; no caches."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = [item for key, item in value.items() if key not in CACHES]
    elif hasattr(value, "__dataclass_fields__") or isinstance(value, torch.distributions.Distribution):
        value = list(vars(value).values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []
