"""The rooms of ``docs/architecture.md`` are those of the package, and imports only go down."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import prospect_lib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "prospect_lib"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `(\w+)` \| .+ \|$", PAGE.split("## Components")[1].split("## ")[0], re.M)
#: the only users of the sandbox, besides the sandbox itself
SANDBOX_USERS = ("cli", "teaching", "jobs.demo")
LARGEST_ROOM = 16  # modules in one folder


def modules() -> dict[str, Path]:
    """Every module of the package by its name without ``prospect_lib.``, faces left out."""
    files = [p for p in PACKAGE.rglob("*.py") if "node_modules" not in p.parts]
    named = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in files}
    return {name: p for name, p in named.items() if not name.endswith(("__init__", "__main__"))}


MODULES = modules()


def imported_by(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "prospect_lib":
                continue
            rest = ".".join(parts[1:])
            while rest and rest not in MODULES:
                if (PACKAGE / rest.replace(".", "/") / "__init__.py").is_file():
                    break
                rest = rest.rpartition(".")[0]
            if rest:
                yield rest


def room_of(module: str) -> str:
    return module.split(".")[0]


def test_the_table_names_the_rooms_that_exist() -> None:
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    files = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(ROOMS) == len(set(ROOMS))
    assert set(ROOMS) == folders | files


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_rooms_below_its_own(module: str) -> None:
    own = ROOMS.index(room_of(module))
    upwards = [
        name
        for name in imported_by(MODULES[module])
        if room_of(name) != room_of(module) and ROOMS.index(room_of(name)) < own
    ]
    assert not upwards


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {other for other in imported_by(path) if other in MODULES and other != name}
        for name, path in MODULES.items()
    }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_only_the_demo_and_the_notebooks_use_the_sandbox() -> None:
    users = {
        module
        for module, path in MODULES.items()
        if room_of(module) != "sandbox"
        and any(room_of(name) == "sandbox" for name in imported_by(path))
    }
    assert {user for user in users if not user.startswith(SANDBOX_USERS)} == set()


def test_a_room_can_be_taken_in_at_a_glance() -> None:
    sizes = {
        str(folder.parent.relative_to(PACKAGE)): len(
            [p for p in folder.parent.glob("*.py") if p.stem != "__init__"]
        )
        for folder in PACKAGE.rglob("__init__.py")
        if folder.parent != PACKAGE
    }
    assert {room: size for room, size in sizes.items() if size > LARGEST_ROOM} == {}


def test_every_file_that_the_page_names_exists() -> None:
    for name in re.findall(r"`([\w/]+\.py)`", PAGE):
        assert (PACKAGE / name).is_file() or (ROOT / name).is_file(), name
    for name in re.findall(r"`((?:\w+\.)+\w+)`", PAGE.split("## Three paths through the code")[1]):
        assert name in MODULES or name.rpartition(".")[0] in {*MODULES, *ROOMS}, name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda p: p.name
)
def test_notebooks_import_from_the_package_and_its_folders_never_from_a_file_inside(
    path: Path,
) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    homes = set(re.findall(r"^\s*from prospect_lib\.([\w.]+) import", code, re.M))
    assert {home for home in homes if home not in ROOMS} == set()
    for names in re.findall(r"^\s*from prospect_lib import ([\w, ]+)$", code, re.M):
        assert set(re.split(r"\W+", names.strip())) <= {*prospect_lib.__all__, *ROOMS}


def test_importing_the_package_imports_none_of_its_dependencies() -> None:
    code = (
        "import sys, prospect_lib; "
        "own = {m for m in sys.modules if m.startswith('prospect_lib.')}; "
        "heavy = {'pandas', 'numpy', 'flask', 'duckdb', 'xgboost', 'snowplow_signals'}; "
        "sys.exit(' '.join(own | heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_name_of_the_public_face_is_loaded_when_it_is_used() -> None:
    for name in prospect_lib.__all__:
        assert getattr(prospect_lib, name) is not None
    assert set(prospect_lib.__all__) <= set(dir(prospect_lib))
    with pytest.raises(AttributeError, match="'prospect_lib' has no attribute 'nothing'"):
        _ = prospect_lib.nothing


def test_type_checkers_see_the_same_face() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (n.module, a.asname) for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
    assert seen == {(f"prospect_lib.{room}", name) for name, room in prospect_lib._HOME.items()}
