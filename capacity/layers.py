"""Which rule applies to which module: RULES, one visible dict that a caller extends.

A rule says how many bits a module's parameters store before any cap, and how its elements go through. A
module of a listed type counts as one layer, submodules included; any other module that owns parameters is
"generic": its parameter count. A function from a module and the number of parameters it owns, by name, to
bits is a rule too: a counted one, whose kind is the function's name.

    measure(model, (3, 32, 32), rules={**RULES, MyLayer: my_rule})
    measure(model, (3, 32, 32), rules={**RULES, MyNorm: LayerRule("my norm", no_bits, counted=False)})
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from capacity.errors import InputError, brief

Rule = Callable[[nn.Module, Mapping[str, int]], int]


def every_parameter(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """One bit for each parameter that the module owns, biases too (rule 2)."""
    return sum(parameters.values())


def no_bits(module: nn.Module, parameters: Mapping[str, int]) -> int:
    """0 bits, whatever the module owns."""
    return 0


@dataclass(frozen=True)
class LayerRule:
    """How modules of one kind count.

    kind: what reports call it
    bits: module, elements of the parameters it owns by name -> bits that those store before any cap
    elementwise: torch's own modules of this kind lead each element through single weights, units along one
        axis; where that is not so, a layer is alive as a whole or not at all
    counted: whether it is a layer, whose output caps those behind it; one that is not only passes data on
    one_output: its first output tensor is all it emits, others repeat a part of it

    >>> LayerRule("gate", lambda module, parameters: 2 * parameters["weight"])(nn.Linear(2, 1), {"weight": 2})
    4
    """

    kind: str
    bits: Rule = every_parameter
    elementwise: bool = False
    counted: bool = True
    one_output: bool = False

    def __call__(self, module: nn.Module, parameters: Mapping[str, int]) -> int:
        """The bits that a module's parameters store before any cap."""
        return self.bits(module, parameters)


dense = LayerRule("dense", elementwise=True)  # (inputs + 1) · units bits
convolution = LayerRule("convolution", elementwise=True)  # (k·k·Cin/groups + 1) · Cout, all positions alike
embedding = LayerRule("embedding")  # rows · width bits: the rows that exist
recurrent = LayerRule("recurrent", one_output=True)  # the parameters once, for all steps; each emits its bits
attention = LayerRule("attention")  # all projections, only where capacity.attention cannot tell them apart
bilinear = LayerRule("bilinear")  # (inputs1 · inputs2 + 1) · units bits
# Scale and shift fold into the neighbouring perceptron, by convention.
normalization = LayerRule("normalization", no_bits, elementwise=True, counted=False)
functional = LayerRule("functional")  # a module that uses its layers' weights without calling those layers
generic = LayerRule("generic")  # a module that no rule names

RULES: Mapping[type[nn.Module], LayerRule] = {
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


def require_rules(name: str, rules: Any) -> None:
    """Raise InputError for what is no mapping of module types to rules."""
    pairs = rules.items() if isinstance(rules, Mapping) else [(None, None)]
    for kind, rule in pairs:
        if not isinstance(kind, type) or not callable(rule):
            culprit = brief(rules) if kind is None else f"{kind!r:.40}: {rule!r:.40}"
            raise InputError(
                f"{name} must map module types to functions (module, parameters) -> bits, as in "
                f"{{**RULES, MyLayer: my_rule}}; found {culprit}"
            )


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters: its name, its rule, and the parameters it owns (elements by name)."""

    name: str
    rule: LayerRule
    parameters: Mapping[str, int]
    container: bool  # has layers of its own below it, so its output is theirs
    storage_bits: int  # what holds these parameters, as stored

    @property
    def kind(self) -> str:
        return self.rule.kind

    @property
    def counted(self) -> bool:
        return self.rule.counted


def rule_for(module: nn.Module, rules: Mapping[type[nn.Module], Rule]) -> LayerRule | None:
    """The rule of the nearest listed class of `module`, or None."""
    rule = next((rules[base] for base in type(module).__mro__ if base in rules), None)
    if rule is None or isinstance(rule, LayerRule):
        return rule
    return LayerRule(getattr(rule, "__name__", type(rule).__name__).replace("_", " "), rule)


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
    owners = list(_owners(model, rules, wanted))
    owner: dict[int, str] = {}
    for name, _, _, owned in sorted(owners, key=lambda entry: entry[0] in last):
        for _, parameter in owned:
            owner.setdefault(id(parameter), name)
    for name, module, rule, owned in owners:
        ruled = rule is not None
        fresh = {key: parameter for key, parameter in owned if owner[id(parameter)] == name}
        counts = {key: parameter.numel() for key, parameter in fresh.items()}
        below = not ruled and any(True for child in module.children() for _ in child.parameters())
        stored = _storage(fresh.values())
        yield Layer(name, rule or generic, counts, container=below, storage_bits=stored), module


def _owners(
    model: nn.Module, rules: Mapping[type[nn.Module], Rule], wanted: Callable[[str, nn.Parameter], bool]
) -> Iterator[tuple[str, nn.Module, LayerRule | None, list[tuple[str, nn.Parameter]]]]:
    """Modules that hold parameters asked for, tied ones too, with their rule if they count as a whole."""
    inside = ""
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        rule = rule_for(module, rules)
        ruled = rule is not None
        prefix = name + "." if name else ""
        owned = [
            (key, parameter)
            for key, parameter in module.named_parameters(recurse=ruled)
            if wanted(prefix + key, parameter)
        ]
        for key, parameter in owned:
            if not ruled and not (parameter.is_floating_point() or parameter.is_complex()):
                raise InputError(
                    f"layer {name!r}: parameter {key!r} holds integers ({parameter.dtype}), which may pack "
                    f"several numbers each; pass a rule for {type(module).__name__} that counts them"
                )
        if owned:
            yield name, module, rule, owned
        if ruled and not name:
            return
        inside = prefix if ruled else ""


def _storage(parameters: Iterable[nn.Parameter]) -> int:
    bits = (p.numel() * getattr(p, "element_bits", 8 * p.element_size()) for p in parameters)
    return round(sum(bits))
