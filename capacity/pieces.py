"""Follows a forward pass operation by operation: where it bends, and of which degree it is in the weights."""

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from capacity.inputs import tensors_in

LINEAR = {  # of the degree of what enters
    "add", "sub", "rsub", "neg", "cat", "stack", "view", "_unsafe_view", "reshape", "_reshape_alias",
    "permute", "t", "transpose", "expand", "slice", "select", "squeeze", "unsqueeze", "clone", "copy",
    "_to_copy", "detach", "alias", "lift_fresh", "split", "split_with_sizes", "unbind", "chunk", "mean",
    "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "constant_pad_nd",
    "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "roll", "flip",
    "index_select", "unfold", "im2col", "pixel_shuffle", "channel_shuffle", "fill", "zero", "as_strided",
}  # fmt: skip
CONSTANT = {
    "empty", "zeros", "ones", "full", "arange", "scalar_tensor", "zeros_like", "ones_like", "empty_like",
    "full_like", "new_zeros", "new_ones", "new_empty", "new_full", "empty_strided",
}  # fmt: skip
PRODUCTS = {  # the places of the two factors; other tensors are added
    "mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "mul": (0, 1), "div": (0, 1),
    "addmm": (1, 2), "baddbmm": (1, 2), "addmv": (1, 2), "convolution": (0, 1), "embedding": (0, 1),
    "_native_batch_norm_legit_no_training": (0, 1), "native_batch_norm": (0, 1), "_prelu_kernel": (0, 1),
}  # fmt: skip
BENDS = {  # comparisons for each output
    "relu": 1, "leaky_relu": 1, "threshold": 1, "clamp_min": 1, "clamp_max": 1, "abs": 1, "maximum": 1,
    "minimum": 1, "_prelu_kernel": 1, "hardtanh": 2, "clamp": 2,
}  # fmt: skip
MAXIMA = {"max_pool2d_with_indices", "max_pool3d_with_indices"}
REDUCTIONS = {"amax", "amin", "adaptive_max_pool2d", "adaptive_max_pool3d"}


@dataclass(frozen=True)
class Piece:
    """Values compared for one sample, their degree in the weights, and the weights that they depend on."""

    units: int
    degree: int
    weights: int


class Pieces(TorchDispatchMode):
    """Within it, every operation is looked at: `found` are the bends, `uncovered` what is none of these.

    Degrees are kept for each memory, so that views and changes in place are followed; where parts of one
    differ the largest holds.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pieces: list[Piece] = []
        self.uncovered: set[str] = set()
        self.held: list[Tensor] = []  # alive, so that no memory is given out twice
        self.parameters = {_memory(p): p.numel() for p in model.parameters()}
        self.degrees = dict.fromkeys(self.parameters, 1)
        given = tensors_in(inputs)
        self.data = {_memory(tensor) for tensor in given}
        self.batch = max(1, given[0].shape[0]) if given and given[0].ndim else 1
        self.used: set[int] = set()

    @property
    def weights(self) -> int:
        """Weights used so far, shared ones once."""
        return sum(self.parameters[place] for place in self.used)

    def degree_of(self, tensor: Tensor) -> int:
        """The degree in the weights of a tensor's values."""
        return self.degrees.get(_memory(tensor), 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func._schema.name.rpartition("::")[2]
        name = name[:-1] if name.endswith("_") else name
        made = [tensor for tensor in tensors_in(output) if tensor.is_floating_point()]
        tensors = tensors_in((args, kwargs or {}))
        self.held += [*made, *tensors]
        self.used |= {_memory(tensor) for tensor in tensors} & self.parameters.keys()
        if made and name not in CONSTANT:
            degree = self._degree(name, args, tensors)
            self._bend(name, args, made[0], degree)
            fed = any(_memory(tensor) in self.data for tensor in tensors)
            for tensor in made:
                place = _memory(tensor)
                self.degrees[place] = max(degree, self.degrees.get(place, 0))
                if fed:
                    self.data.add(place)
        return output

    def _degree(self, name: str, args: Any, tensors: list[Tensor]) -> int:
        highest = max(map(self.degree_of, tensors), default=0)
        if name in PRODUCTS:
            factors = [args[k] for k in PRODUCTS[name] if k < len(args) and isinstance(args[k], Tensor)]
            fed = [_memory(factor) in self.data for factor in factors]
            if len(fed) == 2 and all(fed) and name != "embedding":
                self.uncovered.add(f"{name} of two activations")
            if name == "div" and len(factors) == 2 and not self._constant(factors[1]):
                self.uncovered.add("div")
            if name == "native_batch_norm" and args[5]:
                self.uncovered.add("batch norm by the batch's own statistics")
            return max(highest, sum(map(self.degree_of, factors)))
        if name not in LINEAR | BENDS.keys() | MAXIMA | REDUCTIONS:
            self.uncovered.add(name.strip("_"))
        return highest

    def _constant(self, tensor: Tensor) -> bool:
        return _memory(tensor) not in self.data and self.degree_of(tensor) == 0

    def _bend(self, name: str, args: Any, output: Tensor, degree: int) -> None:
        count = output.numel() / self.batch
        if name in BENDS:
            each = BENDS[name]
        elif name in MAXIMA | REDUCTIONS:
            values = prod(_window(args, output)) if name in MAXIMA else -(-args[0].numel() // output.numel())
            each = values * (values - 1) // 2
        else:
            return
        if degree and each:
            self.pieces.append(Piece(max(1, round(count * each)), degree, self.weights))


def _window(args: Any, output: Tensor) -> list[int]:
    """The sides of a pooling window; one number may stand for all."""
    size = list(args[1])
    return size * (output.ndim - 2) if len(size) == 1 else size


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
