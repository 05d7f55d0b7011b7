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
    "_version": 0, "_types": 0, "_specs": 0, "_checks": 0, "_labels": 0, "_html": 0, "_tail_index": 0,
    "problems": 1, "references": 1,
    "kernels": 2, "optimizers": 2, "statistics": 2, "estimators": 2,
    "results": 3,
    "engine": 4, "solver": 4,
    "comparisons": 5,
    "plots": 6, "testing": 6,
    "experiments": 7, "explore": 7,
    "workflows": 8,
    "cli": 9,
    "_public": 10,
    "": 11,  # the facade sgdsim/__init__.py
    "__main__": 12,
}  # fmt: skip
# Never, not even through other modules: what makes agreement between theory and simulation evidence.
STRANGERS = {"engine": {"solver"}, "solver": {"engine", "kernels", "statistics", "estimators"}}
# Imports inside functions are for optional dependencies, for heavy ones that few users need (flax takes 0.6 s), and for
# the modules that need such a thing as soon as they are imported.
OPTIONAL = {"matplotlib", "pandas", "xarray", "h5netcdf", "h5py", "sklearn", "rich", "typer", "arviz", "bokeh", "flax"}
COMMANDS = {f"sgdsim.cli.{name}" for name in ("explore", "machine", "own", "published")}
LAZY = {"sgdsim._public", "sgdsim.cli.app", "sgdsim.explore.server", "sgdsim.engine.run.pallas_steps",
        "sgdsim.engine.run.tpu_steps", "sgdsim.engine.run.mosaic_steps", *COMMANDS}
# Not loaded with sgdsim, wherever the import stands; of SciPy, which loads its parts when they are used, every part.
HEAVY = {"flax", "scipy.stats", "scipy.optimize", "scipy.special", "scipy.linalg", "scipy.sparse", "scipy.integrate",
         "scipy.interpolate", "jax.experimental.pallas"}  # fmt: skip
# The command line is a user like any other.
USERS = {"cli", "__main__"}


def sources_of(package: Path) -> dict[str, str]:
    """Source text by dotted module name; a folder's `__init__` has the folder's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


TOP, INSIDE, TYPES = "at the top", "inside a function", "for a type checker"


def imports_of(module: str, source: str, modules: set[str]) -> list[tuple[str, str, int]]:
    """(imported module, where, line) of every import statement."""
    is_package = any(other.startswith(module + ".") for other in modules)
    found: list[tuple[str, str, int]] = []

    def visit(node: ast.AST, where: str) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, where, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                # `from sgdsim import _checks` imports the module sgdsim._checks, not the facade.
                inner = f"{base}.{alias.name}"
                found.append((inner if inner in modules else base, where, node.lineno))
        never_run = node.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" else []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            where = INSIDE
        for child in ast.iter_child_nodes(node):
            visit(child, TYPES if child in never_run else where)

    visit(ast.parse(source), TOP)
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
    at_once: dict[str, set[str]] = {module: set() for module in modules}
    extras_at_top: dict[str, set[str]] = {module: set() for module in modules}
    for module, source in sources.items():
        room = room_of(module)
        if room not in FLOORS:
            found.append(f"{module}: the room {room!r} has no floor")
            continue
        for target, place, line in imports_of(module, source, modules):
            where = f"{module}:{line} imports {target}"
            top = target.split(".")[0]
            if place == INSIDE and top not in OPTIONAL and target not in LAZY:
                found.append(f"{where}: inside a function, and not an optional dependency")
            if top in OPTIONAL and place == TOP:
                extras_at_top[module].add(top)
            if top != "sgdsim":
                continue
            if target not in modules:
                found.append(f"{where}: there is no such module")
                continue
            graph[module].add(target)  # an import inside a function makes a circle like any other
            if place == TOP:
                at_once[module].add(target)
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
    for module in sorted(reached({"sgdsim", "sgdsim._public"}, at_once)):
        for extra in sorted(extras_at_top.get(module, ())):
            found.append(f"{module}: imports the extra {extra} as soon as sgdsim is imported")
    return found


def test_the_package_keeps_to_its_floors():
    assert breaches(sources_of(PACKAGE)) == []


def test_the_page_on_extending_draws_the_same_floors():
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^(\d+)  ([\w ]+)$", page, flags=re.MULTILINE)
    inside = {room: floor for room, floor in FLOORS.items() if floor < FLOORS["_public"]}
    assert {room: int(floor) for floor, rooms in drawn for room in rooms.split()} == inside


HOUSE = {
    "sgdsim": "if TYPE_CHECKING:\n    from sgdsim._public import *\n",
    "sgdsim._public": "from sgdsim.engine.simulate import simulate as simulate",
    "sgdsim._checks": "import numpy",
    "sgdsim.problems": "from sgdsim.problems.base import Problem",
    "sgdsim.problems.base": "from sgdsim import _checks",
    "sgdsim.kernels": "",
    "sgdsim.statistics": "",
    "sgdsim.results": "",
    "sgdsim.results.netcdf": "if TYPE_CHECKING:\n    import xarray\n",
    "sgdsim.engine": "",
    "sgdsim.engine.simulate": "from sgdsim.results.netcdf import save\ndef f():\n    import rich\n",
    "sgdsim.solver": "from sgdsim.problems.base import Problem",
    "sgdsim.comparisons": "from sgdsim import results",
    "sgdsim.cli.app": "import typer\nimport sgdsim\ndef list_command():\n    from sgdsim.cli.published import show\n",
    "sgdsim.cli.published": "import rich\nfrom sgdsim import _checks",
    "sgdsim.__main__": "def main():\n    from sgdsim.cli.app import app",
}


def test_a_house_in_order_passes():
    assert breaches(HOUSE) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sgdsim.problems.base": "import sgdsim.engine"}, "lower floor"),
        ({"sgdsim.kernels": "from sgdsim import statistics"}, "lower floor"),
        ({"sgdsim.results": "from ..attic import x"}, "no such module"),
        ({"sgdsim.results": "from .. import comparisons"}, "lower floor"),
        ({"sgdsim.results.netcdf": "from ..engine.simulate import x"}, "lower floor"),
        ({"sgdsim.solver": "from sgdsim.engine.simulate import simulate"}, "share only descriptions"),
        ({"sgdsim.engine": "import sgdsim.solver"}, "share only descriptions"),
        ({"sgdsim.solver": "import sgdsim.kernels"}, "share only descriptions"),
        ({"sgdsim.solver": "import sgdsim.statistics"}, "share only descriptions"),
        ({"sgdsim.solver": "import sgdsim.results", "sgdsim.results": "import sgdsim.statistics"}, "reaches"),
        ({"sgdsim.problems.base": "from sgdsim.problems import other", "sgdsim.problems.other": "from . import base"},
         "cycle"),
        ({"sgdsim.problems.base": "from sgdsim.problems import Problem"}, "cycle"),
        ({"sgdsim.cli.published": "from sgdsim.cli.app import options"}, "cycle"),
        ({"sgdsim.problems.base": "if TYPE_CHECKING:\n    from sgdsim.problems import Problem"}, "cycle"),
        ({"sgdsim.comparisons": "from sgdsim import simulate"}, "facade"),
        ({"sgdsim.comparisons": "def f():\n    import scipy"}, "inside a function"),
        ({"sgdsim.comparisons": "class C:\n    def f(self):\n        from sgdsim import results"},
         "inside a function"),
        ({"sgdsim.comparisons": "from sgdsim import _public"}, "lower floor"),
        ({"sgdsim.engine.simulate": "if True:\n    import rich"}, "the extra rich"),
        ({"sgdsim.engine.simulate": "if TYPE_CHECKING:\n    pass\nelse:\n    import rich"}, "the extra rich"),
        ({"sgdsim.attic": ""}, "has no floor"),
    ],
)  # fmt: skip
def test_each_kind_of_breach_is_caught(change, complaint):
    if "sgdsim.results.netcdf" in change or "sgdsim.results" in change:
        change = {"sgdsim.comparisons": "", **change}
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
    return json.loads(done.stdout.splitlines()[-1])


def test_sgdsim_loads_what_is_heavy_when_it_is_used():
    loaded = fresh_python("import json, sys, sgdsim\nsgdsim.simulate\nprint(json.dumps(list(sys.modules)))")
    assert "sgdsim.engine.simulate" in loaded and "scipy" in loaded
    assert HEAVY & set(loaded) == set() and OPTIONAL & {name.split(".")[0] for name in loaded} == set()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["reproduce", "--help"], {}),
        ([], {"COMP_WORDS": "sgdsim reproduce fig4", "COMP_CWORD": "2"}),
        ([], {"COMP_WORDS": "sgdsim reproduce --scale ", "COMP_CWORD": "3"}),
    ],
)
def test_help_and_completion_load_nothing_that_computes(arguments, environment):
    pytest.importorskip("typer")
    if environment:
        environment["_SGDSIM_COMPLETE"] = "complete_bash"
    loaded = fresh_python(
        "import json, os, sys\n"
        f"sys.argv, os.environ = ['sgdsim', *{arguments}], {{**os.environ, **{environment}}}\n"
        "from sgdsim.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(json.dumps(['', *sys.modules]))"
    )
    assert "typer" in loaded
    assert {"jax", "numpy", "scipy", "optax"} & set(loaded) == set()
    ours = {room_of(name) for name in loaded if name.startswith("sgdsim.")}
    assert ours == {"_version", "__main__", "cli"}


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


def test_assertions_need_nothing_optional():
    said = fresh_python(
        "import json, sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(OPTIONAL)!r}))\n"
        "import sgdsim as ss\n"
        "from sgdsim.testing import assert_agrees, assert_disagrees\n"
        "problem = ss.LinearRegression([1.0], label_noise=0.5)\n"
        "run = dict(batch_size=4, chains=500, steps=100, burn_in=60)\n"
        "grid = ss.sweep(problem, ss.SGD(0.1), learning_rate=[.1, .2], **run)\n"
        "assert_disagrees(grid, lambda learning_rate: {'trace(covariance)': learning_rate})\n"
        "try:\n    assert_agrees(grid.results[0], {'covariance': [[1.0]]})\n"
        "except AssertionError as wrong:\n    print(json.dumps(str(wrong)))\n"
    )
    assert "disagree" in said


def test_importing_sgdsim_changes_nothing_in_jax():
    said = fresh_python(
        "import json, jax\n"
        "before = dict(jax.config.values)\n"
        "import sgdsim\n"
        "sgdsim.simulate\n"
        "from jax._src import xla_bridge\n"
        "print(json.dumps({'changed': [k for k, v in jax.config.values.items() if before.get(k, v) != v],\n"
        "  'started': xla_bridge.backends_are_initialized(), 'x64': jax.config.jax_enable_x64,\n"
        "  'devices': jax.local_device_count('cpu')}))"
    )
    assert said == {"changed": [], "started": False, "x64": False, "devices": 1}


def exported(room: str) -> list[str]:
    """The names that the file of a public room re-exports, in its order; "" is the facade."""
    path = PACKAGE.joinpath(*room.split("."), "__init__.py") if room else PACKAGE / "_public.py"
    imports = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return [alias.asname for node in imports for alias in node.names if alias.asname]


def public_names() -> set[str]:
    return {name for name in exported("") if not name.startswith("_")}


def test_the_facade_is_explicit_re_exports_and_nothing_else():
    tree = ast.parse((PACKAGE / "_public.py").read_text(encoding="utf-8"))
    assert all(isinstance(node, ast.ImportFrom) for node in tree.body[1:])
    assert all(alias.asname == alias.name for node in tree.body[1:] for alias in node.names)
    assert all(hasattr(sgdsim, name) for name in public_names())
    assert set(dir(sgdsim)) == public_names() == set(sgdsim.__all__)
    with pytest.raises(AttributeError, match=r"'sgdsim' has no attribute 'nothing'"):
        sgdsim.nothing  # noqa: B018


def found_at(dotted: str) -> object:
    found = sgdsim
    for part in dotted.split("."):
        assert hasattr(found, part), f"the pages document sgdsim.{dotted}, which does not exist"
        found = getattr(found, part)
    return found


def public_objects(room: str = "") -> dict[str, object]:
    """Every name that a user can reach from the facade through rooms, and what it is."""
    found: dict[str, object] = {}
    for name in exported(room):
        dotted = f"{room}.{name}".removeprefix(".")
        if inspect.ismodule(found_at(dotted)):
            found |= public_objects(dotted)
        elif not name.startswith("_"):
            found[dotted] = found_at(dotted)
    return found


def test_every_public_name_is_documented_and_every_documented_name_exists():
    pages = {
        path: re.findall(r"^::: sgdsim\.(\S+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for path in [ROOT / "docs" / "api.md", *sorted((ROOT / "docs" / "reference").rglob("*.md"))]
    }
    documented = [name for names in pages.values() for name in names]
    rooms = {name for name in public_names() if inspect.ismodule(getattr(sgdsim, name))}
    assert public_names() - rooms - set(documented) == set()
    shown = {id(found_at(name)): name for name in documented}
    assert len(shown) == len(documented), "something is documented twice"
    # A room (solver, statistics) is documented name by name; what stands on two floors needs one place.
    missing = [name for name, thing in public_objects().items() if id(thing) not in shown]
    assert not missing, f"docs/reference/ lacks {missing}: add `::: sgdsim.NAME` to the page of the room"
    for name in documented:
        assert found_at(name).__doc__, f"sgdsim.{name} has no docstring"


def test_a_page_of_the_reference_has_the_order_of_its_room():
    folder = ROOT / "docs" / "reference"
    for path in folder.rglob("*.md"):
        room = ".".join(path.relative_to(folder).with_suffix("").parts)
        names = re.findall(rf"^::: sgdsim\.{room}\.(\w+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert names == [name for name in exported(room) if name in names] != [], path


def test_no_folder_holds_more_than_twenty_files():
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    crowded = {str(f.relative_to(PACKAGE)): n for f in folders if (n := len(list(f.glob("*.py")))) > 20}
    assert not crowded, crowded
