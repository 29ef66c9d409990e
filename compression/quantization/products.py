"""Products with a stored matrix, however a model writes them, as the dense products that torchao knows."""

import torch
from torch import fx, nn

aten = torch.ops.aten
TRANSPOSED = (aten.t.default, aten.numpy_T.default, aten.permute.default, aten.transpose.int)
PLAIN, WITH_BIAS = (aten.matmul.default, aten.mm.default), (aten.addmm.default,)


def as_dense(graph: fx.GraphModule) -> None:
    """x @ W.T becomes linear(x, W), and x @ W, whose W nothing else reads, linear(x, W.T) of a turned W.

    The layers of GPT-2 (addmm) and Falcon (matmul) are written so. The graph computes what it did.
    """
    for node in list(graph.graph.nodes):
        if node.target in PLAIN and len(node.args) == 2:
            _replace(graph, node, node.args[0], node.args[1], None)
        elif node.target in WITH_BIAS and not node.kwargs and len(node.args) == 3:
            bias, x, matrix = node.args
            if len(bias.meta["val"].shape) == 1:
                _replace(graph, node, x, matrix, bias)
    graph.graph.eliminate_dead_code()


def _replace(graph: fx.GraphModule, node: fx.Node, x: fx.Node, matrix: fx.Node, bias: fx.Node | None) -> None:
    weight = _stored(matrix)
    if weight is None:
        return
    if weight is matrix:
        if len(weight.users) > 1:
            return
        _turn(graph, weight)
    with graph.graph.inserting_before(node):
        dense = graph.graph.call_function(aten.linear.default, (x, weight, bias) if bias else (x, weight))
    dense.meta = dict(node.meta)
    node.replace_all_uses_with(dense)
    graph.graph.erase_node(node)


def _stored(matrix: fx.Node) -> fx.Node | None:
    """The stored matrix that a factor is, or is the transpose of."""
    source = matrix.args[0] if matrix.target in TRANSPOSED else matrix
    if not isinstance(source, fx.Node) or source.op != "get_attr" or len(source.meta["val"].shape) != 2:
        return None
    turned = tuple(matrix.meta["val"].shape) == tuple(source.meta["val"].shape)[::-1]
    return source if matrix is source or (turned and _turns(matrix)) else None


def _turns(node: fx.Node) -> bool:
    """Does the operation exchange the two dimensions, rather than leave them?"""
    if node.target is aten.permute.default:
        return [dim % 2 for dim in node.args[1]] == [1, 0]  # type: ignore[union-attr, operator]
    if node.target is aten.transpose.int:
        return {dim % 2 for dim in node.args[1:]} == {0, 1}  # type: ignore[operator]
    return True


def _turn(graph: fx.GraphModule, node: fx.Node) -> None:
    """Store the transpose of a weight in its place, a view of the same numbers."""
    owner, _, key = str(node.target).rpartition(".")
    module = graph.get_submodule(owner)
    value = getattr(module, key)
    turned = value.detach().t()
    if isinstance(value, nn.Parameter):
        turned = nn.Parameter(turned, value.requires_grad)
    setattr(module, key, turned)
    node.meta["val"] = node.meta["val"].t()
