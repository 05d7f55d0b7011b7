"""Types at the doors: what may be anything is the exception, and counted."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import sgdsim

PACKAGE = Path(sgdsim.__file__).parent
LIMIT = 200


def untyped(source: str) -> Iterator[str]:
    """Parameters and returns that are annotated with `Any`, or not at all."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = node.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        for one in named:
            if one is not None and one.arg not in ("self", "cls") and is_any(one.annotation):
                yield f"{node.name}({one.arg})"
        if node.name != "__init__" and is_any(node.returns):
            yield f"{node.name} ->"


def is_any(annotation: ast.expr | None) -> bool:
    if annotation is None:
        return True
    return any((isinstance(n, ast.Name) and n.id == "Any") or (isinstance(n, ast.Attribute) and n.attr == "Any")
               for n in ast.walk(annotation))


def test_few_parameters_are_anything():
    found = {path.relative_to(PACKAGE): list(untyped(path.read_text())) for path in PACKAGE.rglob("*.py")}
    total = sum(map(len, found.values()))
    most = sorted(found, key=lambda path: -len(found[path]))[:5]
    assert total < LIMIT, f"{total} of `Any`, most in " + ", ".join(f"{path} ({len(found[path])})" for path in most)


def test_the_count_sees_each_kind():
    source = inspect.cleandoc("""
        def f(self, a, *b: Any, c: dict[str, typing.Any] = None, d: int = 0, **e: int) -> list[Any]:
            def g(x): return x
        class A:
            def __init__(self, y: int): ...
    """)
    assert sorted(untyped(source)) == ["f ->", "f(a)", "f(b)", "f(c)", "g ->", "g(x)"]
