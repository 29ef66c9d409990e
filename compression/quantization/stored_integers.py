"""Which weights a quantized graph really stores as integers, and what reads those that stayed in float."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload

from compression.counting import memory_of


def weights_of_observers(graph: fx.GraphModule) -> dict[str, str]:
    """The stored weight that each observer of a prepared graph sees, perhaps scaled by a batch norm.

    Under its name and those of the operations that read from it, as not all integers know the first.
    """
    weights: dict[str, str] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith("activation_post_process"):
            source = node.args[0]
            if source.target is torch.ops.aten.mul.Tensor:
                source = source.args[0]
            if isinstance(source, fx.Node) and source.op == "get_attr":
                weights |= dict.fromkeys([node.name, *(user.name for user in node.users)], str(source.target))
    return weights


def weights_reached(graph: fx.GraphModule) -> set[str]:
    """Names of the stored tensors that a prepared graph reads."""
    return {str(node.target) for node in graph.graph.nodes if node.op == "get_attr" and node.users}


def integer_weights(graph: fx.GraphModule, observers: Mapping[str, str]) -> set[str]:
    """Names, as in the model, of the weights that a converted graph stores as integers."""
    names = set()
    for node in graph.graph.nodes:
        if node.op == "get_attr" and _is_float(graph, node) is False:
            names |= {observers[name] for name in _provenance(node) | _readers(node) if name in observers}
    return names


def rounds_activations(model: nn.Module) -> bool:
    """Whether it is, or holds, a graph in which activations become integers, whatever its weights are."""
    graphs = [module for module in model.modules() if isinstance(module, fx.GraphModule)]
    calls = [node for graph in graphs for node in graph.graph.nodes if node.op == "call_function"]
    return any(str(node.target).startswith("quantized_decomposed.quantize") for node in calls)


def buffers_written(model: nn.Module) -> set[str]:
    """Names of the buffers of a graph that its own operations write."""
    calls = model.graph.nodes if isinstance(model, fx.GraphModule) else ()
    return {
        str(node.args[0].target)
        for node in calls
        if isinstance(node.target, OpOverload) and node.target._schema.is_mutable and node.args
        if isinstance(node.args[0], fx.Node) and node.args[0].op == "get_attr"
    }


def _readers(node: fx.Node) -> set[str]:
    """Names of the operations that read a tensor of integers as what it means in floats."""
    meant = [user for user in node.users if "dequantize" in str(user.target)]
    return {reader.name for user in meant for reader in user.users}


def _provenance(node: fx.Node) -> set[str]:
    names, open_ = set(), list(node.meta.get("from_node", []))
    while open_:
        source = open_.pop()
        names.add(source.name)
        open_ += source.from_node
    return names


def readers_of_floats(graph: fx.GraphModule) -> dict[str, str]:
    """What reads each tensor that a converted graph stores in float: names of operations."""
    readers = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr" and _is_float(graph, node):
            targets = (getattr(user.target, "_overloadpacket", user.target) for user in node.users)
            readers[str(node.target)] = ", ".join(sorted({getattr(t, "__name__", str(t)) for t in targets}))
    return readers


def _is_float(graph: fx.GraphModule, node: fx.Node) -> bool | None:
    """Whether what a node reads is a tensor of floats; None if it is no tensor but a graph in the graph."""
    owner, _, key = str(node.target).rpartition(".")
    value = getattr(graph.get_submodule(owner), key)
    return value.is_floating_point() if isinstance(value, torch.Tensor) else None


def by_memory(model: nn.Module, values: Mapping[str, Any]) -> dict[Any, Any]:
    """Values by name of a parameter, by its memory instead: all names of a tied one find it."""
    names = dict(model.named_parameters(remove_duplicate=False))
    return {memory_of(names[name]): value for name, value in values.items() if name in names}
