"""The floors of the house: who may import whom, and what `import sgdsim` may do."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sgdsim

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sgdsim"

# A module imports only from lower floors, or acyclically from siblings in its folder.
FLOORS = {
    "_version": 0, "_types": 0, "_checks": 0, "_labels": 0, "_html": 0,
    "problems": 1,
    "kernels": 2, "optimizers": 2, "statistics": 2,
    "results": 3,
    "engine": 4, "solver": 4,
    "comparison": 4,
    "compare": 5,
    "compare_variance": 6,
    "plots": 6,
    "experiments": 7, "explore": 7,
    "cli": 8,
    "": 9,  # the facade sgdsim/__init__.py
    "__main__": 10,
}  # fmt: skip
# Never, not even through other modules: what makes agreement between theory and simulation evidence.
STRANGERS = {"engine": {"solver"}, "solver": {"engine", "kernels", "statistics"}}
# Imports inside functions are for optional dependencies, and for the modules that exist only to use them.
OPTIONAL = {"matplotlib", "pandas", "xarray", "h5netcdf", "h5py", "sklearn", "rich", "typer", "arviz", "bokeh"}
# flax is no extra, but costs 0.6 s of import that only users of networks should pay.
OPTIONAL |= {"flax"}
LAZY = {"sgdsim.results.files", "sgdsim.results.export", "sgdsim.cli", "sgdsim.explore.server"}
# The command line is a user like any other.
USERS = {"cli", "__main__"}


def sources_of(package: Path) -> dict[str, str]:
    """Source text by dotted module name; a folder's `__init__` has the folder's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports_of(module: str, source: str, modules: set[str]) -> list[tuple[str, bool, int]]:
    """(imported module, whether inside a function, line) of every import statement."""
    is_package = any(other.startswith(module + ".") for other in modules)
    found: list[tuple[str, bool, int]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                # `from sgdsim import _checks` imports the module sgdsim._checks, not the facade.
                inner = f"{base}.{alias.name}"
                found.append((inner if inner in modules else base, inside, node.lineno))
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside or function)

    visit(ast.parse(source), False)
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def reached(start: set[str], graph: dict[str, set[str]]) -> set[str]:
    seen, todo = set(), list(start)
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo.extend(graph.get(module, ()))
    return seen


def breaches(sources: dict[str, str]) -> list[str]:
    """Every breach of the import rule, in words."""
    modules, found = set(sources), []
    graph: dict[str, set[str]] = {module: set() for module in modules}
    extras_at_top: dict[str, set[str]] = {module: set() for module in modules}
    for module, source in sources.items():
        room = room_of(module)
        if room not in FLOORS:
            found.append(f"{module}: the room {room!r} has no floor")
            continue
        for target, inside, line in imports_of(module, source, modules):
            where = f"{module}:{line} imports {target}"
            top = target.split(".")[0]
            if inside and top not in OPTIONAL and target not in LAZY:
                found.append(f"{where}: inside a function, and not an optional dependency")
            if top in OPTIONAL and not inside:
                extras_at_top[module].add(top)
            if top != "sgdsim":
                continue
            if target not in modules:
                found.append(f"{where}: there is no such module")
                continue
            if target not in LAZY or not inside:
                graph[module].add(target)
            other = room_of(target)
            if target == "sgdsim":
                if room not in USERS:
                    found.append(f"{where}: the facade is for users")
            elif other in STRANGERS.get(room, ()):
                found.append(f"{where}: {room}/ and {other}/ share only descriptions")
            elif other != room and FLOORS.get(other, 99) >= FLOORS[room]:
                found.append(f"{where}: not on a lower floor")
    for module in modules:
        beyond = reached(graph[module], graph)
        if module in beyond:
            found.append(f"{module}: is part of an import cycle")
        rooms = {room_of(other) for other in beyond}
        for stranger in sorted(STRANGERS.get(room_of(module), set()) & rooms):
            found.append(f"{module}: reaches {stranger}/ through other modules")
    for module in sorted(reached({"sgdsim"}, graph)):
        for extra in sorted(extras_at_top.get(module, ())):
            found.append(f"{module}: imports the extra {extra} as soon as sgdsim is imported")
    return found


def test_the_package_keeps_to_its_floors():
    assert breaches(sources_of(PACKAGE)) == []


HOUSE = {
    "sgdsim": "from sgdsim.engine.simulate import simulate as simulate",
    "sgdsim._checks": "import numpy",
    "sgdsim.problems": "from sgdsim.problems.base import Problem",
    "sgdsim.problems.base": "from sgdsim import _checks",
    "sgdsim.kernels": "",
    "sgdsim.statistics": "",
    "sgdsim.results": "",
    "sgdsim.results.files": "import xarray",
    "sgdsim.engine": "",
    "sgdsim.engine.simulate": "def f():\n    import rich\n    from sgdsim.results.files import save\n",
    "sgdsim.solver": "from sgdsim.problems.base import Problem",
    "sgdsim.compare": "from sgdsim import results",
    "sgdsim.cli": "import typer\nimport sgdsim",
    "sgdsim.__main__": "def main():\n    from sgdsim.cli import app",
}


def test_a_house_in_order_passes():
    assert breaches(HOUSE) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sgdsim.problems.base": "import sgdsim.engine"}, "lower floor"),
        ({"sgdsim.kernels": "from sgdsim import statistics"}, "lower floor"),
        ({"sgdsim.results": "from ..attic import x"}, "no such module"),
        ({"sgdsim.results": "from .. import compare"}, "lower floor"),
        ({"sgdsim.results.files": "from ..engine.simulate import x"}, "lower floor"),
        ({"sgdsim.solver": "from sgdsim.engine.simulate import simulate"}, "share only descriptions"),
        ({"sgdsim.engine": "import sgdsim.solver"}, "share only descriptions"),
        ({"sgdsim.solver": "import sgdsim.kernels"}, "share only descriptions"),
        ({"sgdsim.solver": "import sgdsim.statistics"}, "share only descriptions"),
        ({"sgdsim.solver": "import sgdsim.results", "sgdsim.results": "import sgdsim.statistics"}, "reaches"),
        ({"sgdsim.problems.base": "from sgdsim.problems import other", "sgdsim.problems.other": "from . import base"},
         "cycle"),
        ({"sgdsim.problems.base": "from sgdsim.problems import Problem"}, "cycle"),
        ({"sgdsim.compare": "from sgdsim import simulate"}, "facade"),
        ({"sgdsim.compare": "def f():\n    import scipy"}, "inside a function"),
        ({"sgdsim.compare": "class C:\n    def f(self):\n        from sgdsim import results"}, "inside a function"),
        ({"sgdsim.engine.simulate": "if True:\n    import rich"}, "the extra rich"),
        ({"sgdsim.attic": ""}, "has no floor"),
    ],
)  # fmt: skip
def test_each_kind_of_breach_is_caught(change, complaint):
    if "sgdsim.results.files" in change or "sgdsim.results" in change:
        change = {"sgdsim.compare": "", **change}
    found = breaches({**HOUSE, **change})
    assert any(complaint in text for text in found), found


def fresh_python(code: str) -> dict:
    """Run `code` in a new interpreter; it prints one JSON object."""
    unset = ("XLA_FLAGS", "JAX_ENABLE_X64")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sgdsim_imports_and_computes_without_the_extras():
    blocked = sorted(OPTIONAL)
    said = fresh_python(
        "import json, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import sgdsim as ss\n"
        "try:\n    ss.DatasetRegression.from_table('x.csv', target='y')\n"
        "except ImportError as missing:\n    message = str(missing)\n"
        "problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)\n"
        "print(json.dumps({'message': message, 'loss': float(problem.loss(problem.minimum))}))"
    )
    assert said["loss"] == 0.125
    assert "pandas" in said["message"] and "pip install" in said["message"]


def test_importing_sgdsim_changes_nothing_in_jax():
    said = fresh_python(
        "import json, jax\n"
        "before = dict(jax.config.values)\n"
        "import sgdsim\n"
        "from jax._src import xla_bridge\n"
        "print(json.dumps({'changed': [k for k, v in jax.config.values.items() if before.get(k, v) != v],\n"
        "  'started': xla_bridge.backends_are_initialized(), 'x64': jax.config.jax_enable_x64,\n"
        "  'devices': jax.local_device_count('cpu')}))"
    )
    assert said == {"changed": [], "started": False, "x64": False, "devices": 1}


def public_names() -> set[str]:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname for node in imports for alias in node.names if alias.asname}
    return {name for name in names if not name.startswith("_")}


def test_the_facade_is_explicit_re_exports_and_nothing_else():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert all(isinstance(node, ast.ImportFrom) for node in tree.body[1:])
    assert all(alias.asname == alias.name for node in tree.body[1:] for alias in node.names)
    assert all(hasattr(sgdsim, name) for name in public_names())


def test_every_public_name_is_documented_and_every_documented_name_exists():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: sgdsim\.(\S+)$", page, flags=re.MULTILINE)
    # A room (solver, statistics) is documented name by name.
    rooms = {name for name in public_names() if inspect.ismodule(getattr(sgdsim, name))}
    assert public_names() - rooms - set(documented) == set()
    assert all(any(name.startswith(room + ".") for name in documented) for room in rooms)
    for dotted in documented:
        found = sgdsim
        for part in dotted.split("."):
            assert hasattr(found, part), f"docs/api.md documents sgdsim.{dotted}, which does not exist"
            found = getattr(found, part)
        assert found.__doc__, f"sgdsim.{dotted} has no docstring"
