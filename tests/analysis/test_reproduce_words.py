"""No verdict is written down, however its word could be spelled: a claim takes what a rule returned."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.lab.measurement.verdict import Verdict

ANALYSIS = Path(__file__).parents[2] / "analysis"
WORDS = {word.casefold() for word in Verdict} | {"wrong"}
RULES = {"exact", "demonstration", "compare", "difference", "together", "not_run"}
LOCAL_RULES = {"_difference", "_timed", "_word"}  # of surrogates: functions that return what a rule returned


def written(source: str) -> Iterator[str]:
    """Every place of a module where a verdict is spelled, made, or handed to a claim unjudged."""
    tree = ast.parse(source)
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    compared = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.Compare) for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and id(node) not in documents and _spells(node):
            yield f"line {node.lineno}: spells a verdict"
        named = isinstance(node, ast.Name) and node.id == "Verdict"
        if named and id(node) not in compared and not _listed(tree, node):
            yield f"line {node.lineno}: takes a member of Verdict"
        if isinstance(node, ast.Call):
            name = _name(node.func)
            if name == "Judgement" or "verdict" in {keyword.arg for keyword in node.keywords}:
                yield f"line {node.lineno}: makes a judgement"
            if name == "Claim" and not _judged(tree, node):
                yield f"line {node.lineno}: a claim without a rule"


def _name(node: ast.expr) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))


def _spells(node: ast.expr) -> bool:
    """Whether an expression of constants alone, joined in any way, is a verdict's word."""
    kinds = (ast.Constant, ast.BinOp, ast.JoinedStr, ast.Call, ast.IfExp, ast.Subscript)
    if not isinstance(node, kinds) or any(isinstance(part, ast.Name) for part in ast.walk(node)):
        return False
    try:
        value = eval(compile(ast.Expression(node), "", "eval"), {"__builtins__": {}})
    except Exception:
        return False
    return isinstance(value, str) and value.strip(" .:;!").casefold() in WORDS


def _listed(tree: ast.AST, name: ast.Name) -> bool:
    """Whether `Verdict` stands as the list of all words, as in a loop over it, or as the kind of a value."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.comprehension)) and node.iter is name:
            return True
        if isinstance(node, ast.FunctionDef) and node.returns is name:
            return True
    return False


def _judged(tree: ast.AST, claim: ast.Call) -> bool:
    """Whether a claim's judgement is the value of a rule, by itself or by a name that has no other value."""
    given = {keyword.arg: keyword.value for keyword in claim.keywords}
    value = given.get("judgement", claim.args[4] if len(claim.args) > 4 else None)
    values = [value]
    if isinstance(value, ast.Name):
        values = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and value.id in {_name(target) for target in node.targets}
        ]
    sides = [
        side for one in values for side in ((one.body, one.orelse) if isinstance(one, ast.IfExp) else (one,))
    ]
    return bool(sides) and all(
        isinstance(side, ast.Call) and _name(side.func) in RULES | LOCAL_RULES for side in sides
    )


@pytest.mark.parametrize(
    "source",
    [
        'x = "exact"', 'x = f"exact"', 'x = "wrong as " + "printed"', 'x = "Not run"', 'x = {"a": "better"}',
        'x = {"worse": 1}', 'x = "%s run" % "not"', 'x = " ".join(("not", "run"))', 
        "x = f'{\"wrong\"} as printed'",
        "x = Verdict.EXACT", 'x = Verdict["EXACT"]', 'x = Verdict("exact")', "x = {1: Verdict.WRONG}",
        "x = Judgement(y)", "x = verdict.Judgement(y)", "x = replace(y, verdict=z)",
        'Claim("A", "b", "c", "d", y)', "y = z\nClaim(1, 2, 3, 4, y)", "Claim(1, 2, 3, 4, judgement=f(x))",
        "Claim(1, 2, 3, 4, exact(True) if x else y)", 'x = "txe"[::-1] if 0 else "exact"',
    ],
)  # fmt: skip
def test_each_way_of_writing_a_verdict_is_found(source: str) -> None:
    assert list(written(source))


def test_what_computes_is_not_found() -> None:
    good = "x = exact(y)\nClaim(1, 2, 3, 4, x)\nClaim(1, 2, 3, 4, f(x) == 1 and 2 or 3)"
    assert len(list(written(good))) == 1
    assert not list(written('"""exact"""\nfor v in Verdict: print(v)\nrows[rows["a"] == Verdict.NOT_RUN]'))


def test_no_verdict_is_written_down() -> None:
    found = {
        path.name: places for path in (ANALYSIS / "reproduce").glob("*.py")
        if (places := list(written(path.read_text(encoding="utf-8"))))
    }  # fmt: skip
    assert not found


def test_no_other_room_spells_a_verdict_that_only_a_rule_gives() -> None:
    phrases = {word for word in Verdict if " " in word}
    for path in ANALYSIS.rglob("*.py"):
        if path.name != "verdict.py":
            text = path.read_text(encoding="utf-8")
            constants = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
            assert not phrases & {value for value in constants if isinstance(value, str)}, path
