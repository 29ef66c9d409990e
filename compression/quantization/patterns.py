"""Patterns of a convolution and its batch norm that torchao looks for: exported once, and where needed only.

For each network that is trained with rounding in it, torchao exports 108 such patterns, of four kinds of
convolution, which takes half a minute. Here a pattern is exported once in a process, and kinds that the
network does not hold are left out. The graphs that come out are the same.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx

from compression.quantization.replacing import replaced

BUILDERS = (
    "_get_conv_bn_pattern", "_get_qat_conv_bn_pattern", "_get_qat_conv_bn_pattern_no_conv_bias",
    "_get_quantized_qat_conv_bn_pattern", "_get_folded_quantized_qat_conv_bn_pattern",
)  # fmt: skip
STEPS = ("_fuse_conv_bn_qat_helper", "_fold_conv_bn_qat_helper")
EXPORT = "_get_aten_graph_module_for_pattern"


@contextmanager
def few_patterns() -> Iterator[None]:
    """Within it, torchao's training with rounding exports no pattern twice, and none that cannot be found.

    Where this release of torchao has other names inside, it works as it always does.
    """
    from torchao.quantization.pt2e import qat_utils

    names = (*BUILDERS, *STEPS, EXPORT)
    own = {name: getattr(qat_utils, name, None) for name in names}
    if None in own.values():
        yield
        return
    with replaced(qat_utils, _replacements(tuple(own.items()))):
        yield


@functools.cache
def _replacements(own: tuple[tuple[str, Any], ...]) -> dict[str, Callable[..., Any]]:
    """Builders that give the same pattern each time, by which its graph is known; steps that pass."""
    functions = dict(own)
    replacements: dict[str, Callable[..., Any]] = {
        name: functools.cache(functions[name]) for name in BUILDERS
    }
    replacements |= {name: functools.partial(_where_present, functions[name]) for name in STEPS}
    return {**replacements, EXPORT: functools.partial(_exported_once, functions[EXPORT], {})}


def _where_present(
    step: Callable[..., fx.GraphModule], graph: fx.GraphModule, convolution: Any, *args: Any, **kwargs: Any
) -> fx.GraphModule:
    name = f"aten.{convolution.__name__}."
    if not any(str(node.target).startswith(name) for node in graph.graph.nodes):
        return graph
    return step(graph, convolution, *args, **kwargs)


def _exported_once(
    export: Callable[..., fx.GraphModule],
    known: dict[Any, fx.GraphModule],
    pattern: Any,
    inputs: tuple[Any, ...],
    is_cuda: bool = False,
    **kwargs: Any,
) -> fx.GraphModule:
    key = (pattern, is_cuda, tuple(sorted(kwargs)))
    if key not in known:
        known[key] = export(pattern, inputs, is_cuda, **kwargs)
    return copy.deepcopy(known[key])
