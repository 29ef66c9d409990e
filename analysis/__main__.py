"""List the commands, one line each."""

import ast
from pathlib import Path


def commands() -> dict[str, str]:
    """Command name -> first line of its docstring, read without importing it."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        runs = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        if runs and not path.stem.startswith("_"):
            found[path.stem] = (ast.get_docstring(tree) or "").splitlines()[0]
    return found


if __name__ == "__main__":
    print("Commands, each with --help:\n")
    listed = commands()
    width = max(map(len, listed))
    for name, line in listed.items():
        print(f"  python -m analysis.{name:<{width}}  {line}")
