"""The reference of all public modules, made from their docstrings by pdoc: `python .github/reference.py`.

It lies in build/reference, which git ignores, or in the folder named behind the command. Needs the extra
[docs].
"""

import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("capacity", "compression", "analysis")
PARAMETERS = re.compile(r"^Parameters\n-+\n((?:.+(?:\n|$))+)", re.MULTILINE)
RULED = re.compile(r"^(=+(?: +=+)+\n(?:.+(?:\n|$))+)", re.MULTILINE)
ALIGNED = re.compile(r"^(\S.*\n)((?: {4}\w+(?:, \w+)* {2,}.+(?:\n|$))+)", re.MULTILINE)


def to_markdown(docstring: str) -> str:
    """A docstring of ours as Markdown: parameters as a list, tables as they stand.

    >>> print(to_markdown("Parameters\\n----------\\nseed: of the order\\n\\nRaises InputError."))
    **Parameters**
    <BLANKLINE>
    - **seed**: of the order
    <BLANKLINE>
    Raises InputError.
    """
    docstring = RULED.sub(r"```\n\1```\n", docstring)
    docstring = ALIGNED.sub(r"\1\n\2\n", docstring)
    return PARAMETERS.sub(lambda block: "**Parameters**\n\n" + _listed(block[1]), docstring)


def _listed(entries: str) -> str:
    """Entries `name: text` as items of a list; what is indented goes on with the one above."""
    return re.sub(r"^([\w, *]+): ", r"- **\1**: ", entries, flags=re.MULTILINE)


def modules(root: Path = ROOT) -> list[str]:
    """The names of all modules, those of packages first; private ones left out."""
    paths = [path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*.py")]
    packages = [".".join(path.parts[:-1]) for path in paths if path.stem == "__init__"]
    plain = [".".join(path.with_suffix("").parts) for path in paths if not path.stem.startswith("_")]
    return [*sorted(packages), *sorted(plain)]


def write(folder: Path, names: Sequence[str]) -> None:
    """Write a page for each of these modules, and those that a package names, with an index."""
    import pdoc

    pdoc.render.configure(docformat="markdown")
    pdoc.render.env.filters["to_markdown"] = to_markdown
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The module specification")  # named by its package too
        pdoc.pdoc(*names, r"!.*\._", output_directory=folder)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "reference"
    sys.path.insert(0, str(ROOT))
    write(folder, modules())
    print(folder / "index.html")


if __name__ == "__main__":
    main()
