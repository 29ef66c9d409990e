"""Units removed from a network group by group, and the outcome compared with the network it was.

The comparison holds for any weights. Where what is removed was silent, the outputs of both networks are
equal. Else the reference is the network as it was in which every layer that lost units is replaced by its
smaller one: it reads from its wide input what is left, and writes zeros where units are gone. What lies
between the layers (shortcuts, reshapes, shuffles, gates, softmax) runs at full width there, so that a unit
removed from the wrong place, or one that the others feel, shows as a difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from capacity.attention import fuse_attention
from capacity.cloning import clone
from capacity.errors import InputError
from capacity.inputs import map_tensors, refusing, tensors_in
from compression.shrinking.coupling import attention_heads, training_branches, units_of
from compression.verification import (
    Arguments,
    outputs,
    probes,
    relative_difference,
    require_telling,
    tolerance,
)

TOLERANCE = 1e-8  # in double precision, where rounding explains about 1e-12
REMEMBERED = ("hidden_dim", "embed_dim")  # widths that transformers keep beside their layers
KEEP = "; keep=[...] the layers of that width"


class Removal:
    """A network before and after the removal of units; `small` changes in place, `original` does not."""

    def __init__(self, model: nn.Module, input_size: Any, *, silent: bool) -> None:
        self.small, self.silent = model, silent
        self.types = {name: tensor.dtype for name, tensor in named_tensors(model).items()}
        self.frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        self.inputs = self._in_double(input_size)
        self.original = clone(model)
        self.expected = outputs(self.original, self.inputs)
        require_telling(self.expected)
        self.trained = _training_shapes(self.original, self.inputs[0])
        self.names = {module: name for name, module in model.named_modules()}
        self.read: dict[str, list[int]] = {}
        self.written: dict[str, list[int]] = {}
        self.difference: float | None = None  # on all inputs, of what is removed now
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())

    def _in_double(self, input_size: Any) -> list[Arguments]:
        """Inputs of the comparison; the network is made double where it runs so, which is exact."""
        plain = probes(self.small, input_size)
        exact = [map_tensors(given, lambda t: t.double() if t.is_floating_point() else t) for given in plain]
        try:
            outputs(self.small.double(), exact)
        except Exception:  # whatever the forward pass has against doubles
            self._restore_types()
            return plain
        return exact

    def _restore_types(self) -> None:
        for name, tensor in named_tensors(self.small).items():
            tensor.data = tensor.data.to(self.types[name])

    def finish(self) -> nn.Module:
        """The small network with the number types and frozen parameters it had."""
        self._restore_types()
        self.small.zero_grad(set_to_none=True)
        for name, parameter in self.small.named_parameters():
            parameter.requires_grad_(name not in self.frozen and parameter.is_floating_point())
        return fuse_attention(self.small)

    def apply(self, group: Any) -> None:
        """Remove one of torch-pruning's groups of coupled units, and note what went where."""
        self.difference = None
        for dependency, places in group:
            module = dependency.target.module
            name = self.names.get(module) if isinstance(module, nn.Module) else None
            if name is None or not places:
                continue
            function = dependency.handler.__name__
            both = not isinstance(module, nn.Linear | nn.modules.conv._ConvNd | nn.Embedding)
            both |= "depthwise" in function or getattr(module, "groups", 1) == units_in(module) > 1
            wide = self.original.get_submodule(name)
            if both or "out_channels" in function:
                _drop(self.written, name, places, units_in(wide, out=True))
            if both or "in_channels" in function:
                _drop(self.read, name, places, units_in(wide))
        group.prune()

    def sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Units of every layer before and after."""
        return units_of(self.original), units_of(self.small)

    def verified(self) -> float:
        """The relative difference of outputs on all inputs; raises InputError as `check` does."""
        if self.difference is None:
            self.difference = self.check()
        return self.difference

    def check(self, *, quick: bool = False) -> float:
        """The relative difference of outputs; raises InputError if the small network is another one."""
        self._remember()
        inputs = self.inputs[-2:] if quick else self.inputs
        if self.silent:
            expected, outputs = self.expected[-len(inputs) :], self._run_small(inputs)
        else:
            expected, outputs = self._cut(inputs)
        if self.trained is not None and _training_shapes(self.small, self.inputs[0]) != self.trained:
            raise InputError("the shrunk model would not train: a layer that runs only then kept its width")
        difference = relative_difference(expected, outputs)
        doubles = any(p.dtype == torch.float64 for p in self.small.parameters())
        if not difference <= (TOLERANCE if doubles else tolerance(self.small)):
            raise InputError(
                f"outputs would move by {difference:.2g} of their largest value, more than the units removed "
                f"account for: the forward pass reorders them, or what follows does not send zero to zero"
            )
        return difference

    def _run_small(self, inputs: Sequence[Arguments]) -> list[list[Tensor]]:
        """Its outputs; raises InputError where they have other shapes than those of the original."""
        outputs = _run(self.small, inputs)
        shapes = [[tensor.shape for tensor in some] for some in self.expected[-len(inputs) :]]
        if [[tensor.shape for tensor in some] for some in outputs] != shapes:
            raise InputError("removing units would change the shape of an output")
        return outputs

    def _remember(self) -> None:
        """Bring heads, and the widths that modules keep beside their layers, up to date."""
        before, after = units_of(self.original), units_of(self.small)
        for name, module in self.original.named_modules():
            small = self.small.get_submodule(name)
            for key in REMEMBERED:
                width = vars(module).get(key)  # a property follows by itself
                for child, _ in module.named_children():
                    full = f"{name}.{child}" if name else child
                    if full in before and before[full] == width:
                        setattr(small, key, after[full])
        wide = {self.names[small]: layers for small, layers in attention_heads(self.small).items()}
        for name, layers in wide.items():
            heads: Any = self.original.get_submodule(name).num_heads
            self.small.get_submodule(name).num_heads = (
                heads * layers[0].out_features // before[self.names[layers[0]]]
            )

    def _cut(self, inputs: Sequence[Arguments]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Outputs of the original in which smaller layers stand, and of the small network."""
        shapes: dict[str, torch.Size] = {}
        changed = sorted({*self.read, *self.written})
        small = {name: self.small.get_submodule(name) for name in changed}
        with _jittered(small.values()):
            hooks = [
                module.register_forward_pre_hook(
                    lambda _, args, name=name: shapes.update({name: args[0].shape})
                )
                for name, module in small.items()
            ]
            try:
                outputs = self._run_small(inputs)
            finally:
                _drop_hooks(hooks)
            hooks = [
                self.original.get_submodule(name).register_forward_hook(
                    _stand_in(module, self.read.get(name), self.written.get(name), shapes.get(name))
                )
                for name, module in small.items()
            ]
            try:
                return _run(self.original, inputs), outputs
            finally:
                _drop_hooks(hooks)

    @contextmanager
    def undone_on_error(self, group: Any) -> Iterator[None]:
        """Within it, an exception leaves the small network and the graph's operations as they were."""
        modules: list[Any] = list(self.small.modules())
        modules += [d.target.module for d, _ in group if isinstance(d.target.module, nn.Module)]
        state = [(module, _snapshot(module)) for module in dict.fromkeys(modules)]
        notes = {**self.read}, {**self.written}
        try:
            yield
        except Exception:
            for module, (own, parameters, buffers) in state:
                module.__dict__.update(own)
                module._parameters.clear()
                module._parameters.update(parameters)
                module._buffers.clear()
                module._buffers.update(buffers)
            self.read, self.written = notes
            raise


def _snapshot(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    own = {
        key: list(value) if isinstance(value, list) else value
        for key, value in module.__dict__.items()
        if not key.startswith("_")
    }
    return own, dict(module._parameters), dict(module._buffers)


def units_in(module: nn.Module, *, out: bool = False) -> int:
    """Channels that a layer reads or, with `out`, writes; of a normalization, those it scales."""
    keys = ("out_features", "out_channels") if out else ("in_features", "in_channels")
    for key in (*keys, "num_features", "num_channels", "embedding_dim", "num_parameters"):
        if isinstance(width := getattr(module, key, None), int):
            return width
    weight = getattr(module, "weight", None)
    return int(weight.shape[-1]) if isinstance(weight, Tensor) and weight.dim() else 0


def _drop(units: dict[str, list[int]], name: str, places: Sequence[int], width: int) -> None:
    left, gone = units.get(name, list(range(width))), set(places)
    units[name] = [unit for place, unit in enumerate(left) if place not in gone]


def _stand_in(small: nn.Module, read: Any, written: Any, shape: torch.Size | None) -> Any:
    """A hook on a wide layer that has the small one compute, between a selection and zeros."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        given = args[0]
        if shape is not None and given.shape != shape:
            axis = _axis(given.shape, shape)
            given = given.index_select(axis, torch.tensor(read, device=given.device))
        computed: Tensor = small(given, *args[1:])
        if computed.shape == output.shape:
            return computed
        axis = _axis(output.shape, computed.shape)
        wide = computed.new_zeros(output.shape)
        return wide.index_copy(axis, torch.tensor(written, device=wide.device), computed)

    return hook


def _axis(wide: torch.Size, narrow: torch.Size) -> int:
    axes = [k for k, (one, two) in enumerate(zip(wide, narrow, strict=True)) if one != two]
    if len(axes) != 1:
        raise InputError(f"a layer's input of shape {tuple(wide)} would become {tuple(narrow)}")
    return axes[0]


@contextmanager
def _jittered(modules: Any) -> Iterator[None]:
    """Within it, scales and shifts are disturbed, so that a zero scale hides no difference."""
    vectors = list({id(p): p for m in modules for p in m.parameters(recurse=False) if p.dim() == 1}.values())
    before = [vector.detach().clone() for vector in vectors]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for vector in vectors:
            vector += 0.1 * (1 + torch.rand(vector.shape, generator=generator).to(vector))
        try:
            yield
        finally:
            for vector, values in zip(vectors, before, strict=True):
                vector.copy_(values)


def _run(model: nn.Module, inputs: Sequence[Arguments]) -> list[list[Tensor]]:
    why = "the shrunk model does not run: its forward pass counts on a width that changed"
    with refusing(lambda reason: f"{why} ({reason}){KEEP}", 200):
        return outputs(model, inputs)


def _training_shapes(model: nn.Module, given: Arguments) -> list[torch.Size] | None:
    """Shapes of what the model returns in training; None where it does not run so."""
    args, kwargs = given
    try:
        with training_branches(model), torch.no_grad(), torch.random.fork_rng():
            return [tensor.shape for tensor in tensors_in(model(*args, **kwargs))]
    except Exception:  # detectors ask for targets
        return None


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their first names."""
    return dict([*model.named_parameters(), *model.named_buffers()])


def _drop_hooks(hooks: Sequence[Any]) -> None:
    for hook in hooks:
        hook.remove()


def reasons(left_out: Mapping[str, str]) -> str:
    """The first few layers that keep their units, and why.

    >>> reasons({"0": "it is an output", "2": "it is an output"})
    "'0', '2': it is an output"
    """
    texts: dict[str, list[str]] = {}
    for name, why in left_out.items():
        texts.setdefault(why, []).append(name)
    shown = [
        ", ".join(map(repr, names[:4]))
        + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        + f": {why}"
        for why, names in list(texts.items())[:3]
    ]
    return "; ".join(shown)
