"""A model as a graph that torchao can quantize, with the settings of its own dropouts and batch norms.

torchao knows convolutions by their paddings in numbers, and puts its own defaults in place of a batch norm's
epsilon and momentum; both are mended here, on the graph.
"""

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from capacity.inputs import refusing
from compression.quantization.calls import free_batch, tensors_only
from compression.quantization.products import as_dense

aten = torch.ops.aten
DROPOUTS = (
    aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default, aten.feature_dropout_.default,
    aten.alpha_dropout.default, aten.alpha_dropout_.default, aten.feature_alpha_dropout.default,
    aten.feature_alpha_dropout_.default,
)  # fmt: skip
PADDED = {
    aten.conv1d.padding: aten.conv1d.default,
    aten.conv2d.padding: aten.conv2d.default,
    aten.conv3d.padding: aten.conv3d.default,
}
FIXED_BATCH = "its forward pass fixes the size of the batch, as len(x) does, and x.shape[0] does not"
EPSILON = 1e-5  # the one that torchao folds with


@dataclass(frozen=True)
class Norm:
    """What a batch norm was made with; `training`: it normalizes by the batch even in evaluation."""

    momentum: float
    epsilon: float
    training: bool


def exported(plain: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.GraphModule:
    """The model's graph in evaluation mode, with a free batch dimension and paddings in numbers.

    Outputs that are no tensors, such as caches of keys and values, are left out. Raises InputError for what
    the exporter stumbles over.
    """
    refused = refusing(lambda reason: f"the model cannot be exported for quantization: {obstacle(reason)}")
    with refused, tensors_only(plain), contextlib.redirect_stderr(io.StringIO()):  # where graphs are written
        args, kwargs, shapes = free_batch(plain, args, kwargs)
        program = torch.export.export(plain, args, kwargs, dynamic_shapes=shapes)
        graph: fx.GraphModule = program.module()
    for node in list(graph.graph.nodes):
        if node.target in PADDED:
            _pad_in_numbers(graph, node)
        _tell_calls_apart(plain, node)
    as_dense(graph)
    graph.recompile()
    return graph


def obstacle(reason: str) -> str:
    """What the exporter said, without its advice, or in other words what fixes the size of the batch."""
    if "data-dependent" in reason:
        said = reason.partition("data-dependent")[2].partition("(unhinted")[0].strip()
        return f"its way depends on the data ({said})"
    if "Constraints violated" not in reason or "batch" not in reason:
        return reason
    return FIXED_BATCH


def own_modes(graph: fx.GraphModule) -> None:
    """Let train() and eval() do what they do for any module; exported graphs refuse them."""
    for name in ("train", "eval"):
        vars(graph).pop(name, None)
    graph.train(False)


def _tell_calls_apart(plain: nn.Module, node: fx.Node) -> None:
    """A name of its own for each further call of a module without weights, as a ReLU used twice.

    torchao takes operations of one module for one pattern.
    """
    stack = dict(node.meta.get("nn_module_stack", {}))
    key = next(reversed(stack), "")
    _, again, call = key.partition("@")
    if again:
        path, kind = stack[key]
        if not any(True for _ in plain.get_submodule(path).parameters()):
            node.meta["nn_module_stack"] = stack | {key: (f"{path}@{call}", kind)}


def _pad_in_numbers(graph: fx.GraphModule, node: fx.Node) -> None:
    """padding="same" and "valid" as numbers; what is uneven is padded before, as torch does."""
    given = dict(
        zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), node.args, strict=False)
    )
    given |= node.kwargs
    source, weight = given["input"], given["weight"]
    assert isinstance(weight, fx.Node) and isinstance(source, fx.Node)
    kernel = list(weight.meta["val"].shape[2:])
    dilation = _each(given.get("dilation", 1), len(kernel))
    spare = [
        d * (k - 1) if given.get("padding") == "same" else 0 for d, k in zip(dilation, kernel, strict=True)
    ]
    before = [total // 2 for total in spare]
    uneven = [total % 2 for total in spare]
    with graph.graph.inserting_before(node):
        if any(uneven):
            widths = [side for extra in reversed(uneven) for side in (0, extra)]
            value = torch.nn.functional.pad(source.meta["val"], widths)
            source = graph.graph.call_function(aten.constant_pad_nd.default, (source, widths))
            source.meta["val"] = value
        node.args = (
            source, weight, given.get("bias"), _each(given.get("stride", 1), len(kernel)), before, dilation,
            given.get("groups", 1),
        )  # fmt: skip
    node.kwargs, node.target = {}, PADDED[node.target]  # type: ignore[index]


def _each(value: Any, count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def drop_dropout(graph: fx.GraphModule) -> None:
    """Take out dropouts that do nothing; torchao loses an activation's range behind them."""
    for node in list(graph.graph.nodes):
        if node.target in DROPOUTS and node.args[2] is False:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()


def norms_of(graph: fx.GraphModule) -> dict[str, Norm]:
    """The settings of each batch norm, by the name of its running mean."""
    norms = {}
    for node in _norm_nodes(graph):
        _, _, _, mean, _, training, momentum, epsilon, *_ = node.args
        if isinstance(mean, fx.Node):
            assert isinstance(momentum, float) and isinstance(epsilon, float)
            norms[str(mean.target)] = Norm(momentum, epsilon, training is True)
    return norms


def _norm_nodes(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.target is aten.batch_norm.default]


def follow_mode(graph: fx.GraphModule, norms: dict[str, Norm]) -> None:
    """Dropouts and batch norms with their own settings, on in training mode and off in evaluation."""
    with graph.graph.inserting_before(next(iter(graph.graph.nodes))):
        mode = graph.graph.create_node("get_attr", "training")
    for node in graph.graph.nodes:
        if node.target in DROPOUTS and node.args[2] is False:
            node.args = (*node.args[:2], mode)
    for node, norm in _with_settings(graph, norms):
        node.args = (*node.args[:5], norm.training or mode, norm.momentum, norm.epsilon, *node.args[8:])
    _set_epsilons(graph, {name: norm.epsilon for name, norm in norms.items()})
    own_modes(graph)
    graph.recompile()


@torch.no_grad()
def fix_mode(graph: fx.GraphModule) -> None:
    """The graph in evaluation for good; variances hold the difference to the epsilon torchao folds with."""
    norms = norms_of(graph)
    for node in list(graph.graph.nodes):
        if node.op == "get_attr" and node.target == "training":
            for user in list(node.users):
                user.args = tuple(False if part is node else part for part in user.args)
            graph.graph.erase_node(node)
    for node, norm in _with_settings(graph, norms):
        node.args = (*node.args[:6], norm.momentum, EPSILON, *node.args[8:])
    _set_epsilons(graph, dict.fromkeys(norms, EPSILON))
    for name, norm in norms.items():
        graph.get_buffer(_variance(name)).add_(norm.epsilon - EPSILON)
    graph.recompile()


def _with_settings(graph: fx.GraphModule, norms: dict[str, Norm]) -> list[tuple[fx.Node, Norm]]:
    nodes = [node for node in _norm_nodes(graph) if isinstance(node.args[3], fx.Node)]
    return [(node, norms[str(node.args[3].target)]) for node in nodes]  # type: ignore[union-attr]


def _variance(mean: str) -> str:
    return mean.removesuffix("running_mean") + "running_var"


def _set_epsilons(graph: fx.GraphModule, epsilons: dict[str, float]) -> None:
    """What is added to a variance where torchao has a convolution's weight scaled by its batch norm."""
    by_variance = {_variance(name): epsilon for name, epsilon in epsilons.items()}
    for node in graph.graph.nodes:
        if node.target is aten.add.Tensor and isinstance(node.args[0], fx.Node):
            name = str(node.args[0].target)
            if node.args[0].op == "get_attr" and name in by_variance and isinstance(node.args[1], float):
                node.args = (node.args[0], by_variance[name])


def follows_mode(graph: fx.GraphModule) -> bool:
    """Was it made by `follow_mode`?"""
    return any(node.op == "get_attr" and node.target == "training" for node in graph.graph.nodes)


def hide_norms(graph: fx.GraphModule, *, without_weights: bool = False) -> None:
    """Show torchao no batch norm where none is to be folded: its search for them takes most of a minute.

    Those without weights, which it cannot fold, alone if asked.
    """
    for node in _norm_nodes(graph):
        if not without_weights or node.args[1] is None or node.args[2] is None:
            node.target = _normalized


def show_norms(graph: fx.GraphModule) -> None:
    """Undo `hide_norms`."""
    for node in graph.graph.nodes:
        if node.target is _normalized:
            node.target = aten.batch_norm.default


def _normalized(*args: Any) -> Any:
    return aten.batch_norm.default(*args)
