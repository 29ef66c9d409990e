"""Which kernels compute, where those that a GPU takes by default round more or have no gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def single_precision() -> Iterator[None]:
    """Within it products of float32 are products of float32: TensorFloat-32 keeps 10 of their 23 bits.

    Convolutions and recurrent layers on a GPU round so by default; matrix products where the user asked for
    it by `torch.set_float32_matmul_precision`, on processors too. The settings come back.
    """
    cudnn: Any = torch.backends.cudnn
    kinds = cudnn.conv, cudnn.rnn
    before = [kind.fp32_precision for kind in kinds]
    restore = _matrix_products()
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value
        restore()


def _matrix_products() -> Any:
    """Set matrix products to all their bits; what sets them back, by the interface that they were set by."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by torch.backends.cuda.matmul.fp32_precision
        matmul: Any = torch.backends.cuda.matmul
        value, matmul.fp32_precision = matmul.fp32_precision, "ieee"
        return lambda: setattr(matmul, "fp32_precision", value)
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.set_float32_matmul_precision(precision)


@contextmanager
def gradients_in_evaluation(model: nn.Module) -> Iterator[None]:
    """Within it recurrent layers of the model have gradients in evaluation mode, which cuDNN's have not."""
    settings: Any = torch.backends.cudnn
    enabled = settings.enabled
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        settings.enabled = False
    try:
        yield
    finally:
        settings.enabled = enabled
