"""What README and the guides beside the packages say exists: code, links, pictures, commands and options."""

import ast
import importlib
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from running import run_script

from analysis.__main__ import commands

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "capacity/README.md", "compression/README.md", "analysis/README.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(text_of(page)) if found == language]


def calls(page: str) -> list[tuple[str, list[str]]]:
    """Command and words of each `python -m analysis.COMMAND ...`, in code or between backquotes."""
    inline = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text_of(page)))
    lines = [line for code in blocks(page, "sh") for line in code.splitlines()]
    found = []
    for line in (*inline, *lines):
        match = re.search(r"python -m analysis\.(\w+)([^&#|]*)", line)
        if match:
            found.append((match[1], shlex.split(match[2])))
    return found


def test_code_imports_what_exists() -> None:
    imported = set()
    for code in (code for page in PAGES for code in blocks(page, "python")):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module}.{name.name}"
                    imported.add(name.name)
    assert {"prune", "shrink", "squeeze", "distill", "quantize", "factorize", "encode"} <= imported


@pytest.mark.parametrize("page", ["README.md", "compression/README.md"])
def test_the_blocks_of_a_page_are_one_script_that_runs(page: str, tmp_path: Path) -> None:
    done = run_script("\n".join(blocks(page, "python")), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("top-1 error") + done.stdout.count("step 0") > 0


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page: str) -> None:
    text = text_of(page)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert targets
    for target in targets:
        path, _, anchor = target.partition("#")
        if path.startswith("https:"):
            continue
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, (
                target
            )


@pytest.mark.parametrize("page", PAGES)
def test_commands_take_the_options_that_are_told(page: str) -> None:
    for command, words in calls(page):
        module = importlib.import_module(f"analysis.{command}")
        known = {field.name for field in fields(module.Config)}
        for place, word in enumerate(words):
            if word.startswith("--") and word not in ("--help", "--..."):
                option = word.removeprefix("--").removeprefix("no-").replace("-", "_")
                assert option in known, f"{command} {word}"
            if word == "--preset":
                assert words[place + 1] in module.PRESETS, f"{command} {word} {words[place + 1]}"


def test_every_command_is_on_the_front_page() -> None:
    assert set(commands()) == {command for command, _ in calls("README.md")}


def test_every_picture_is_shown() -> None:
    shown = "".join(map(text_of, PAGES))
    for picture in (ROOT / ".readme").glob("*.png"):
        assert f".readme/{picture.name}" in shown, picture.name
