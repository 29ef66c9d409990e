"""Which kernels compute, where those that a GPU takes by default round more or have no gradient."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def single_precision() -> Iterator[None]:
    """Within it products of float32 are products of float32: TensorFloat-32 keeps 10 of their 23 bits.

    Convolutions and recurrent layers on a GPU round so by default; matrix products where the user asked for
    it, on processors too. All settings come back; where none rounds, none is touched.
    """
    backends: Any = torch.backends
    cudnn, gpu = backends.cudnn, torch.cuda.is_available()
    kinds = [backends.mkldnn.matmul, backends.cuda.matmul, *([cudnn.conv, cudnn.rnn] if gpu else [])]
    before = [kind.fp32_precision for kind in kinds]
    if set(before) <= {"none", "ieee"}:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older interface, which must agree with the newer
        precision = _readable(torch.get_float32_matmul_precision)
        tf32 = _readable(lambda: cudnn.allow_tf32) if gpu else None
        _set(cudnn, precision and "highest", None if tf32 is None else False)
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _set(cudnn, precision, tf32)
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value


def _readable(setting: Callable[[], Any]) -> Any:
    """A setting of the older interface; None where the newer one has set what it cannot say."""
    try:
        return setting()
    except RuntimeError:
        return None


def _set(cudnn: Any, precision: str | None, tf32: bool | None) -> None:
    if precision is not None:
        torch.set_float32_matmul_precision(precision)
    if tf32 is not None:
        cudnn.allow_tf32 = tf32


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
