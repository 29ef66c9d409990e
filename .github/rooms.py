"""The rooms of the three packages and which looks into which: a Mermaid graph made from the imports.

`python .github/rooms.py` prints it, `python .github/rooms.py --write` puts it into ARCHITECTURE.md. A room is
`capacity`, `compression`, a shelf or module of `analysis.lab`, or an experiment. An arrow that follows from
two others is left out: what can be reached from a room, by whatever way, is all that it may import.
"""

import ast
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("capacity", "compression", "analysis")
PAGE = ROOT / ".github" / "ARCHITECTURE.md"
START, END = "```mermaid\n", "```\n"
Graph = dict[str, set[str]]


def imports(root: Path = ROOT) -> Graph:
    """Module -> modules of ours that it names in an import, wherever that stands."""
    names = {}
    for path in (path for package in PACKAGES for path in (root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: Graph = {}
    for name, path in names.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            wanted = []
            if isinstance(node, ast.ImportFrom) and node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                wanted = [full if full in names else node.module for full in inner]
            elif isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            graph[name] |= {module for module in wanted if module in names and module != name}
    return graph


def room_of(module: str) -> str:
    """The room that a module lies in; empty for those at the door, such as `analysis.__main__`.

    >>> room_of("compression.codec"), room_of("analysis.lab.runs.grid"), room_of("analysis.speed.config")
    ('compression', 'lab.runs', 'speed')
    """
    package, *inner = module.split(".")
    if package != "analysis":
        return package
    if inner[:1] == ["lab"]:
        return ".".join(inner[:2]) if len(inner) > 1 else ""
    return inner[0] if inner and not inner[0].startswith("_") else ""


def rooms(modules: Mapping[str, set[str]]) -> Graph:
    """Room -> rooms that its modules import."""
    graph: Graph = {}
    for name, wanted in modules.items():
        if room_of(name):
            graph.setdefault(room_of(name), set()).update({room_of(other) for other in wanted})
    return {room: others - {room, ""} for room, others in graph.items()}


def reduced(graph: Graph) -> Graph:
    """The fewest arrows that lead from each room to all that it leads to.

    Raises graphlib.CycleError for rooms that look into each other.

    >>> reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    {'c': set(), 'b': {'c'}, 'a': {'b'}}
    """
    below: Graph = {}
    for room in TopologicalSorter(graph).static_order():
        below[room] = set().union(graph[room], *(below[other] for other in graph[room]))
    return {
        room: {other for other in graph[room] if not any(other in below[way] for way in graph[room])}
        for room in below
    }


def boxes_of(arrows: Graph) -> list[list[str]]:
    """Rooms that are drawn together: experiments with the same arrows, all others by themselves."""
    looked_into = set().union(*arrows.values())
    boxes: dict[tuple[str, ...], list[str]] = {}
    for room in sorted(arrows):
        alone = room in PACKAGES or room.startswith("lab.") or room in looked_into
        boxes.setdefault((room,) if alone else ("", *sorted(arrows[room])), []).append(room)
    return list(boxes.values())


def drawing(graph: Graph) -> str:
    """The graph in Mermaid's language."""
    arrows = reduced(graph)
    boxes = boxes_of(arrows)
    lines = ["flowchart TD"]
    for title, shared in (("experiments", False), ("lab", True)):
        lines.append(f"    subgraph {title}")
        for box in boxes:
            if box[0] not in PACKAGES and box[0].startswith("lab.") == shared:
                label = "<br>".join(room.removeprefix("lab.") for room in box)
                lines.append(f'        {_id(box[0])}["{label}"]')
        lines.append("    end")
    lines += [f"    {room}" for room in PACKAGES if room in arrows]
    for box in boxes:
        lines += [f"    {_id(box[0])} --> {_id(other)}" for other in sorted(arrows[box[0]])]
    return "\n".join(lines) + "\n"


def _id(room: str) -> str:
    return room.replace(".", "_")


def main() -> None:
    text = drawing(rooms(imports()))
    if "--write" not in sys.argv[1:]:
        print(text, end="")
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + START + text + END + after, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
