"""Networks of any size without memory."""

import torch
from torch.overrides import TorchFunctionMode


class OnMeta(TorchFunctionMode):
    """Parameters without memory, for constructors that compute with other tensors."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.empty:
            kwargs["device"] = "meta"
        return function(*args, **kwargs)
