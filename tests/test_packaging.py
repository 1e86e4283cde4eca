"""The package declares what it imports and ships every file that it reads."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from prospect_lib.settings import DATABRICKS_CONNECTOR

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "prospect_lib"
REQUIREMENTS = (PACKAGE / "requirements.txt").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([\w-]+)==([\w.]+)", REQUIREMENTS, re.MULTILINE))
#: Requirements that no module imports: a command, a data file, and the packages that open and run
#: the notebooks. Of the two builds of xgboost one is installed.
NOT_IMPORTED = {"gunicorn", "ua-parser-builtins", "jupyter", "xgboost", "xgboost-cpu"}
#: Imported only by who chose them; in pyproject.toml.
EXTRAS = {"databricks-sql-connector": "databricks", "pyspark": "spark"}


def imported() -> Iterator[str]:
    """Yield the name of every third-party distribution that the package imports."""
    distributions = packages_distributions()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            for name in {name.partition(".")[0] for name in names}:
                if name not in {*sys.stdlib_module_names, "prospect_lib", "google"}:
                    yield distributions[name][0].lower().replace("_", "-")


def test_requirements_are_pinned() -> None:
    lines = [line for line in REQUIREMENTS.splitlines() if line and not line.startswith("#")]
    assert lines and all(re.match(r"[\w-]+==[\w.]+(; .+)?$", line) for line in lines)


def test_every_requirement_is_imported_and_every_import_is_required() -> None:
    others = re.search(r"^# Also imported.*: (.+)\.$", REQUIREMENTS, re.MULTILINE)
    assert others is not None
    names = set(imported())
    assert names - PINS.keys() - set(EXTRAS) == set(others[1].split(", "))
    assert PINS.keys() - names - NOT_IMPORTED == set()


def test_the_extra_and_the_message_that_names_it_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras["databricks"] == [DATABRICKS_CONNECTOR] and DATABRICKS_CONNECTOR in extras["test"]


def test_every_file_that_is_not_a_module_is_package_data() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared: set[Path] = set()
    for package, patterns in project["tool"]["setuptools"]["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        declared |= {path for pattern in patterns for path in folder.glob(pattern)}
    files = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file()
        and path.suffix not in {".py", ".pyc"}
        and "node_modules" not in path.parts
    }
    assert files - declared == set()
