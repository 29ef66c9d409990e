"""From a Config dataclass to a command: presets, options in groups, clear one-line errors, exit codes."""

import ast
import atexit
import dataclasses
import errno
import gc
import inspect
import math
import os
import sys
import textwrap
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from itertools import pairwise
from typing import Annotated, Any, NoReturn, TypeVar

from analysis import EXIT_STATUS
from analysis.lab.consoles import open_streams, patient_streams, quiet_libraries
from analysis.lab.ending import ended_by_signals, status_of, tell_end, tell_late
from analysis.lab.memory import keep_freed_memory
from capacity.errors import InputError, unknown
from capacity.terminal import broken, printable, terminal_width, wrap

C = TypeVar("C")
MOST, MOST_SEED = 2**48, 2**32  # of whole numbers among the settings
POSITIVE = (
    "batch_size", "classes", "code_learning_rate", "image_size", "learning_rate", "limit",
    "network_trials", "patience", "ratios", "repeats", "seeds", "temperature", "total", "trials",
)  # fmt: skip


def parse(config: type[C], presets: Mapping[str, C], arguments: Sequence[str]) -> C:
    """The settings from the command line; options given explicitly override those of `--preset NAME`."""
    import tyro

    chosen = "default"
    for place, argument in enumerate(arguments):
        if argument.startswith("--preset"):
            _, _, value = argument.partition("=")
            chosen = value or next(iter(arguments[place + 1 : place + 2]), "")
    if chosen not in presets:
        raise unknown("preset", chosen, presets)
    default = presets[chosen]
    shown: dict[str, Any] = {
        "args": list(arguments),
        "prog": _called(config),
        "description": _described(config),
    }
    groups = settings_groups(config)
    if len(groups) == 1:
        settings: C = tyro.cli(config, default=default, **shown)
        return settings
    parsed = tyro.cli(_grouped(config, groups, default), **shown)
    values = {key: value for group in vars(parsed).values() for key, value in vars(group).items()}
    return config(**values)


def _described(config: type) -> str:
    """What a command is for, in lines of the terminal; the indent keeps tyro from joining them."""
    paragraphs = [*inspect.cleandoc(str(config.__doc__)).split("\n\n"), EXIT_STATUS]
    width = terminal_width()
    return "\n\n".join(
        "\n".join(wrap(" ".join(text.split()), width, subsequent_indent="  ")) for text in paragraphs
    )


def settings_groups(config: type) -> dict[type, list[str]]:
    """The names of a Config's fields: its own first, then those of each group of settings it is made of."""
    left = {field.name for field in dataclasses.fields(config)}
    groups = {}
    for group in reversed(config.__mro__[1:]):
        names = [name for name in inspect.get_annotations(group) if name in left]
        left -= set(names)
        if names:
            groups[group] = names
    own = [field.name for field in dataclasses.fields(config) if field.name in left]
    return {config: own} | dict(reversed(groups.items()))


def _grouped(config: type, groups: Mapping[type, Sequence[str]], default: Any) -> type:
    """A dataclass with a field for each group, so that --help shows them apart; options keep their names."""
    import tyro

    hints = typing.get_type_hints(config, include_extras=True)
    docs = descriptions(config)
    parts: list[tuple[str, Any, Any]] = []
    for group, names in groups.items():
        fields = [
            (name, Annotated[hints[name], tyro.conf.arg(help=docs.get(name, ""))], getattr(default, name))
            for name in names
        ]
        title = "this command" if group is config else group.__name__.removesuffix("Settings").lower()
        made: Any = dataclasses.make_dataclass(title.title().replace(" ", ""), fields, frozen=True)
        made.__doc__ = ""
        annotated = Annotated[made, tyro.conf.OmitArgPrefixes]
        parts.append((title.replace(" ", "_"), annotated, made()))
    nested = dataclasses.make_dataclass("Settings", parts, frozen=True)
    nested.__doc__ = config.__doc__
    return nested


def descriptions(config: type) -> dict[str, str]:
    """The name of each setting, in order, and what it is: the string below it, its own or its group's."""
    texts = {
        name: text for group in reversed(config.__mro__[:-1]) for name, text in _documented(group).items()
    }
    return {field.name: texts.get(field.name, "") for field in dataclasses.fields(config)}


def _documented(group: type) -> dict[str, str]:
    """The strings below a dataclass's own fields."""
    body = ast.parse(textwrap.dedent(inspect.getsource(group))).body[0].body  # type: ignore[attr-defined]
    texts = {}
    for node, after in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr):
            texts[node.target.id] = " ".join(ast.literal_eval(after.value).split())  # type: ignore[union-attr]
    return texts


def _module_of(config: type[Any]) -> str:
    """The module that a command is, as in `python -m analysis.NAME`; of a script's own settings, theirs."""
    spec = sys.modules[config.__module__].__spec__
    name = spec.name if spec is not None else config.__module__
    return name.removesuffix(".__main__").removesuffix(".config")


def _called(config: type[Any]) -> str:
    """How the user called this command."""
    if sys.argv[0].startswith("deepcapacity "):
        return sys.argv[0]
    return f"python -m {_module_of(config)}"


def execute(
    config: type[C],
    presets: Mapping[str, C],
    start: Callable[[C], Any],
    arguments: Sequence[str] | None = None,
    opening: Callable[[C], str] | None = None,
) -> None:
    """Run a command; bad input, a full or read-only disk and an interrupt end in one clear line.

    `opening` is what it says before it loads anything heavy, by default what the command is for. Of several
    processes under torchrun, the first one speaks.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if arguments is None:
        _prepare_process()
    open_streams()
    with ended_by_signals(last=arguments is None):
        try:
            follows = _follows()
        except InputError as error:
            _stop(f"error: {error}", 2)
        if follows:
            _follow(config, presets, start, words)
            return
        with patient_streams():
            _execute(config, presets, start, words, opening or _purpose)


def _prepare_process() -> None:
    """Set what holds for a process that runs one command and ends: how it draws, what it does with memory.

    Torch's imports leave a million objects, which Python's defaults go through again and again for garbage,
    and once more at the end, where it took `reproduce` longer than a second.
    """
    os.environ["MPLBACKEND"] = "agg"  # into files: any other backend could only fail
    gc.set_threshold(10_000, 10, 10)
    atexit.register(gc.freeze)
    keep_freed_memory()


def _follow(
    config: type[C], presets: Mapping[str, C], start: Callable[[C], Any], words: Sequence[str]
) -> None:
    """Run a process that follows the first one, silent but for an error that is its own."""
    from compression.processes import rank

    sys.stdout = sys.stderr = open(os.devnull, "w", errors="replace")  # noqa: SIM115
    try:
        _execute(config, presets, start, words, _purpose)
    except SystemExit as ending:
        if ending.code == 2 and isinstance(ending.__context__, Exception):
            tell_late(rank(), f"error: {' '.join(str(ending.__context__).split())}")
        raise
    except Exception as error:
        tell_late(rank(), "".join(traceback.format_exception(error)))
        raise


def _purpose(settings: Any) -> str:
    """A command's name and what it is for, the first line of its description."""
    purpose = str(type(settings).__doc__).strip().splitlines()[0].rstrip(".")
    return f"{_module_of(type(settings)).removeprefix('analysis.')}: {purpose}"


def _execute(
    config: type[C],
    presets: Mapping[str, C],
    start: Callable[[C], Any],
    arguments: Sequence[str],
    opening: Callable[[C], str],
) -> None:
    quiet_libraries()
    try:
        _require_alone(config)
        settings = parse(config, presets, arguments)
        check_numbers(settings)
        print(printable(broken(opening(settings))), flush=True)
        start(settings)
    except InputError as error:
        _stop(f"error: {error}", 2)
    except OSError as error:
        _stop(f"error: {error}; {_way_on(error, config)}", 2)
    except KeyboardInterrupt as error:
        tell_end(lambda advice: print(advice, file=sys.stderr))
        raise SystemExit(status_of(error)) from None
    except (ImportError, RuntimeError) as error:
        if "torchvision" not in str(error):
            raise
        _stop(f"error: {unmatched(error)}", 2)
    if "WORLD_SIZE" in os.environ:
        from compression.processes import leave

        leave()


def _way_on(error: OSError, config: type[Any]) -> str:
    """What to do about a file that cannot be written or read."""
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        output = any(field.name == "output" for field in dataclasses.fields(config))
        return f"choose {'an --output' if output else 'a folder'} that can be written, or let it be"
    return "finished steps are kept, run the same command again to go on"


SHARED = "capacity_curve"  # the command whose processes reach each training together


def _require_alone(config: type[Any]) -> None:
    """Raise InputError where several processes were started for a command of ours that computes in one."""
    package, _, name = _module_of(config).partition(".")
    if "WORLD_SIZE" not in os.environ or package != "analysis" or name == SHARED:
        return
    from compression.processes import world_size

    if world_size() > 1:
        raise InputError(
            f"{name} computes in one process: start it without torchrun; {SHARED} trains in several"
        )


def _follows() -> bool:
    """Whether this is one of several processes, and not the first; alone it loads no torch."""
    if "WORLD_SIZE" not in os.environ:
        return False
    from compression.processes import rank

    return rank() > 0


def unmatched(error: Exception) -> str:
    """What to do where torchvision cannot be loaded: as good as always torch does not match it."""
    versions = " and ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision"))
    return (
        f"{versions} do not fit together ({error}): install both anew from the same index, "
        "with `pip install --force-reinstall torch torchvision`"
    )


def at_least_one(config: Any, *names: str) -> None:
    """Raise InputError for the first of these settings that is below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, found {getattr(config, name)}")


def single_precision(config: Any) -> None:
    """Raise InputError for weights of another type, in commands that make integers of them and time them."""
    if config.dtype != "float32":
        raise InputError(
            f"dtype {config.dtype}: integers are made of float32 weights and timed beside them; "
            f"capacity_curve, pruning_curve, distillation_table and compression_frontier take other types"
        )


def check_numbers(config: Any) -> None:
    """Raise InputError for a setting that is negative, NaN or infinite, or 0 where that means nothing.

    A `limit` of -5 would leave out the last five pictures, a `shift` of -1 crop them.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if isinstance(number, int) and number >= (most := MOST_SEED if field.name == "seed" else MOST):
                raise InputError(f"{field.name} must be below {most:,}, found {_short(number)}")
            if isinstance(number, float) and not math.isfinite(number):
                raise InputError(f"{field.name} must be a finite number, found {number}")
            if number < 0 or (number == 0 and field.name in POSITIVE):
                rule = "not be negative"
                if field.name in POSITIVE:
                    rule = "be at least 1" if isinstance(number, int) else "be positive"
                raise InputError(f"{field.name} must {rule}, found {_short(number)}")


def _short(number: int | float) -> str:
    """A number in a message; of one that Python does not write in digits, its bits."""
    long = isinstance(number, int) and number.bit_length() > 200
    return f"a number of {int(number).bit_length():,} bits" if long else str(number)


def _stop(message: str, code: int) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    raise SystemExit(code)
