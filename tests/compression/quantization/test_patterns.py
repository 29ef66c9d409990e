"""torchao's patterns exported once: the same graphs, and nothing left behind in torchao."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchao.quantization.pt2e import qat_utils

from compression.quantization import patterns, quantize
from compression.quantization.patterns import BUILDERS, EXPORT, STEPS, few_patterns

INPUTS = (torch.randn(1, 1, 3), torch.randn(1, 1, 1), *(torch.randn(1) for _ in range(5)))


def norm_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip


def export(pattern: nn.Module) -> torch.fx.GraphModule:
    return getattr(qat_utils, EXPORT)(pattern, INPUTS, False)


def test_a_pattern_is_exported_once_as_torchao_does() -> None:
    expected = export(qat_utils._get_conv_bn_pattern(F.conv1d))
    with few_patterns():
        built = [qat_utils._get_conv_bn_pattern(F.conv1d) for _ in range(2)]
        assert built[0] is built[1]
        one, two = map(export, built)
    assert one is not two and one.code == two.code == expected.code
    with few_patterns():  # of a later network
        assert qat_utils._get_conv_bn_pattern(F.conv1d) is built[0]
    for a, b in zip(expected.graph.nodes, two.graph.nodes, strict=True):
        assert (a.op, str(a.target), a.meta.keys()) == (b.op, str(b.target), b.meta.keys())


def test_kinds_that_are_not_there_are_passed_over() -> None:
    graph = torch.export.export(norm_net().eval(), (torch.randn(2, 1, 8, 8),)).module()
    seen = []

    def step(graph, convolution, *rest):
        seen.append(convolution.__name__)
        return graph

    for kind in (F.conv1d, F.conv2d, F.conv_transpose1d, F.conv_transpose2d):
        assert patterns._where_present(step, graph, kind, INPUTS) is graph
    assert seen == ["conv2d"]


def test_torchao_is_left_as_it_was_and_may_have_other_names(monkeypatch) -> None:
    names = (*BUILDERS, *STEPS, EXPORT)
    before = [getattr(qat_utils, name) for name in names]
    with pytest.raises(KeyError), few_patterns():
        assert all(getattr(qat_utils, name) is not own for name, own in zip(names, before, strict=True))
        raise KeyError
    assert [getattr(qat_utils, name) for name in names] == before
    monkeypatch.delattr(qat_utils, STEPS[0])
    with few_patterns():
        assert getattr(qat_utils, EXPORT) is before[-1]


@pytest.mark.slow
def test_networks_are_the_same_with_all_patterns(monkeypatch) -> None:
    data = [(torch.randn(8, 1, 8, 8), torch.zeros(8, dtype=torch.long))]

    def found() -> tuple[str, dict[str, torch.Tensor]]:
        result = quantize(norm_net(), scheme="aware", input_size=(1, 8, 8), calibration=data,
                          retrain=lambda graph: graph)  # fmt: skip
        return result.model.code, result.model.state_dict()

    code, weights = found()
    monkeypatch.setattr(patterns, "few_patterns", nullcontext)
    expected, exact = found()
    assert code == expected
    assert all(torch.equal(weights[key], value) for key, value in exact.items())
