"""Which rule applies to which module: RULES, one visible dict that a caller extends.

A rule takes a module and the number of parameters it owns, by name, and returns the bits those store
before any cap. The kind shown in a report is the rule's name. A module of a listed type counts as one
layer, submodules included; any other module that owns parameters is "generic": its parameter count.

    measure(model, (3, 32, 32), rules={**RULES, MyLayer: my_rule})
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from capacity.errors import InputError

Rule = Callable[[nn.Module, Mapping[str, int]], int]


def dense(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """(inputs + 1) · units bits: every weight and bias one bit (rule 2)."""
    return sum(parameters.values())


def convolution(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """(k·k·Cin/groups + 1) · Cout bits: weights are shared over positions, so each counts once."""
    return sum(parameters.values())


def embedding(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """rows · width bits: the rows that exist."""
    return sum(parameters.values())


def recurrent(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """The parameters once, for all steps; each step emits its own bits."""
    return sum(parameters.values())


def attention(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """The parameters of all projections (only where they cannot be told apart, see capacity.attention)."""
    return sum(parameters.values())


def bilinear(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """(inputs1 · inputs2 + 1) · units bits."""
    return sum(parameters.values())


def normalization(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """0 bits: scale and shift fold into the neighbouring perceptron (a convention)."""
    return 0


def functional(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """The parameters of a module that uses its layers' weights without calling those layers."""
    return sum(parameters.values())


def generic(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """The parameter count of a module that no rule names."""
    return sum(parameters.values())


RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: dense,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.ConvTranspose1d: convolution,
    nn.ConvTranspose2d: convolution,
    nn.ConvTranspose3d: convolution,
    nn.Bilinear: bilinear,
    nn.Embedding: embedding,
    nn.EmbeddingBag: embedding,
    nn.RNNBase: recurrent,
    nn.RNNCellBase: recurrent,
    nn.MultiheadAttention: attention,
    nn.modules.batchnorm._BatchNorm: normalization,
    nn.modules.instancenorm._InstanceNorm: normalization,
    nn.LayerNorm: normalization,
    nn.RMSNorm: normalization,
    nn.GroupNorm: normalization,
}


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters: its name, its rule, and the parameters it owns (elements by name)."""

    name: str
    rule: Rule
    parameters: Mapping[str, int]
    container: bool  # has layers of its own below it, so its output is theirs
    storage_bits: int  # what holds these parameters, as stored

    @property
    def kind(self) -> str:
        return self.rule.__name__.replace("_", " ")

    @property
    def counted(self) -> bool:
        return self.rule is not normalization


def rule_for(module: nn.Module, rules: Mapping[type[nn.Module], Rule]) -> Rule | None:
    """The rule of the nearest listed class of `module`, or None."""
    return next((rules[base] for base in type(module).__mro__ if base in rules), None)


def find_layers(
    model: nn.Module,
    rules: Mapping[type[nn.Module], Rule],
    wanted: Callable[[str, nn.Parameter], bool],
    last: Collection[str] = (),
) -> Iterator[tuple[Layer, nn.Module]]:
    """Every module with a parameter for which `wanted(full name, parameter)`.

    Tied parameters count once, for the first module that holds them, those named in `last` behind all
    others.

    Raises InputError for integer parameters, whose numbers cannot be told from their packing, unless a
    rule names the module's type.
    """
    found = list(_owners(model, rules, wanted))
    owner: dict[int, str] = {}
    for name, _, _, owned in sorted(found, key=lambda entry: entry[0] in last):
        for _, parameter in owned:
            owner.setdefault(id(parameter), name)
    for name, module, rule, owned in found:
        whole = rule is not None
        fresh = {key: parameter for key, parameter in owned if owner[id(parameter)] == name}
        counts = {key: parameter.numel() for key, parameter in fresh.items()}
        below = not whole and any(True for child in module.children() for _ in child.parameters())
        stored = _storage(fresh.values())
        yield Layer(name, rule or generic, counts, container=below, storage_bits=stored), module


def _owners(
    model: nn.Module, rules: Mapping[type[nn.Module], Rule], wanted: Callable[[str, nn.Parameter], bool]
) -> Iterator[tuple[str, nn.Module, Rule | None, list[tuple[str, nn.Parameter]]]]:
    """Modules that hold parameters asked for, tied ones too, with their rule if they count as a whole."""
    inside = ""
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        rule = rule_for(module, rules)
        whole = rule is not None
        prefix = name + "." if name else ""
        owned = [
            (key, parameter)
            for key, parameter in module.named_parameters(recurse=whole)
            if wanted(prefix + key, parameter)
        ]
        for key, parameter in owned:
            if not whole and not (parameter.is_floating_point() or parameter.is_complex()):
                raise InputError(
                    f"layer {name!r}: parameter {key!r} holds integers ({parameter.dtype}), which may pack "
                    f"several numbers each; pass a rule for {type(module).__name__} that counts them"
                )
        if owned:
            yield name, module, rule, owned
        if whole and not name:
            return
        inside = prefix if whole else ""


def _storage(parameters: Iterable[nn.Parameter]) -> int:
    bits = (p.numel() * getattr(p, "element_bits", 8 * p.element_size()) for p in parameters)
    return round(sum(bits))
