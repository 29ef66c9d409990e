"""A file is read back and scored before anything is guaranteed about it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from capacity import InputError, certificate
from compression.batches import TensorBatches
from compression.certifying import certify
from compression.codec import encode
from compression.evaluation import evaluate


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 2))


def test_it_scores_what_the_file_holds(tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.sign())
        model[0].bias.zero_()
    size = encode(model, tmp_path / "net.dcz")
    inputs = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    data = TensorBatches(inputs, (inputs[:, 0] > 0).long(), 100)
    scored = evaluate(model, data)
    blank = nn.Sequential(nn.Linear(4, 2))  # whose own weights do not count
    found = certify(tmp_path / "net.dcz", blank, data, choices=3)
    assert found == certificate(scored.total - scored.correct, 500, size, choices=3)
    assert 0 < found.training_error < found.error_bound < 1


def test_another_architecture_gets_no_certificate(tmp_path: Path) -> None:
    encode(net(), tmp_path / "net.dcz")
    with pytest.raises(InputError, match="another architecture"):
        certify(tmp_path / "net.dcz", nn.Sequential(nn.Linear(4, 3)), [])
