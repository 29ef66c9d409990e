"""The command `deepcapacity`: lists the experiments, and runs one by its name. Loads no torch of its own."""

import ast
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from analysis import EXIT_STATUS

LISTED = 78  # characters of a line of the list of commands
FOLDER = Path(__file__).parent


def commands() -> dict[str, str]:
    """Command name -> first line of its docstring, read without importing it."""
    lines = {}
    for path in [*FOLDER.glob("[!_]*.py"), *FOLDER.glob("*/__main__.py")]:
        package = path.stem == "__main__"
        source = path.with_name("__init__.py") if package else path
        tree = ast.parse(source.read_text(encoding="utf-8"))
        runs = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        if package or runs:
            name = path.parent.name if package else path.stem
            lines[name] = (ast.get_docstring(tree) or name).splitlines()[0]
    return dict(sorted(lines.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `deepcapacity NAME ...`; names with hyphens or underscores."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_listing(_installed()))
    elif words[0] == "--version":
        print(f"deepcapacity {_version()}")
    elif words[0].startswith("--tyro-"):
        _complete(words)
    else:
        sys.argv[1:] = words[1:] if arguments is None else sys.argv[1:]
        _run(words[0].replace("-", "_"), None if arguments is None else words[1:])


def _run(name: str, words: list[str] | None) -> None:
    if name not in commands():
        from capacity.errors import unknown

        print(f"error: {unknown('command', name, commands())}", file=sys.stderr)
        raise SystemExit(2)
    sys.path.append(os.getcwd())  # last, where a network may be named as package.module:factory
    if _installed():
        sys.argv[0] = f"deepcapacity {name.replace('_', '-')}"
    _module(name).main(words)


def _complete(words: list[str]) -> None:
    """Print or write a completion script for bash or zsh, of all commands and their options."""
    import tyro

    modules = {name.replace("_", "-"): _module(name) for name in commands()}
    defaults = {name: module.Config() for name, module in modules.items()}
    union = tyro.extras.subcommand_type_from_defaults(defaults)
    tyro.cli(union, prog="deepcapacity", args=words)


def _module(name: str) -> Any:
    package = (FOLDER / name / "__main__.py").exists()
    return import_module(f"analysis.{name}.__main__" if package else f"analysis.{name}")


def _installed() -> bool:
    """Whether it was called as the command `deepcapacity`."""
    return Path(sys.argv[0]).stem == "deepcapacity"


def _listing(installed: bool) -> str:
    from capacity.terminal import broken, wrap

    called = "deepcapacity {}" if installed else "python -m analysis.{}"
    rows = {
        called.format(name.replace("_", "-") if installed else name): line
        for name, line in commands().items()
    }
    options = {
        "--version": "the version",
        "--tyro-print-completion {bash,zsh}": "a script for completion by the tab key",
    }

    def entries(names: dict[str, str]) -> list[str]:
        indent = " " * 6
        return [
            line
            for name, text in names.items()
            for line in (f"  {name}", *wrap(text, LISTED, initial_indent=indent, subsequent_indent=indent))
        ]

    lines = ["Commands, each with --help:", "", *entries(rows), "", "Or:", "", *entries(options), ""]
    return "\n".join([*lines, broken(EXIT_STATUS, LISTED)])


def _version() -> str:
    try:
        return metadata.version("deepcapacity")
    except metadata.PackageNotFoundError:  # a clone that is not installed
        return str(import_module("capacity").__version__)


if __name__ == "__main__":
    main()
