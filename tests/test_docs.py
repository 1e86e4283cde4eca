"""The README and the requirements agree with the code."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from prospect_lib.settings import SECRETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUIREMENTS = (ROOT / "prospect_lib" / "requirements.txt").read_text(encoding="utf-8")
#: Requirements that no module imports: a command, a data file, and the packages that open and run
#: the notebooks. Of the two builds of xgboost one is installed.
NOT_IMPORTED = {"gunicorn", "ua-parser-builtins", "jupyter", "xgboost", "xgboost-cpu"}


def pinned() -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", REQUIREMENTS, re.MULTILINE))


def imported(folder: Path) -> Iterator[str]:
    """Yield the name of every third-party package that modules in a folder import."""
    distributions = packages_distributions()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            for name in {name.partition(".")[0] for name in names}:
                if name not in {*sys.stdlib_module_names, "prospect_lib", "google"}:
                    yield distributions[name][0].lower().replace("_", "-")


def test_secrets_and_links_of_the_readme_exist() -> None:
    for name in re.findall(r"`((?:SP|SF|NGROK)_\w+|ATOMIC_TABLE)`", README):
        assert name in SECRETS
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_requirements_are_pinned() -> None:
    lines = [line for line in REQUIREMENTS.splitlines() if line and not line.startswith("#")]
    assert lines and all(re.match(r"[\w-]+==[\w.]+(; .+)?$", line) for line in lines)


def test_every_requirement_is_imported_and_every_import_is_required() -> None:
    comes_along = re.search(r"^# Also imported.*: (.+)\.$", REQUIREMENTS, re.MULTILINE)
    assert comes_along is not None
    names = set(imported(ROOT / "prospect_lib"))
    assert names - pinned().keys() == set(comes_along[1].split(", "))
    assert pinned().keys() - names - NOT_IMPORTED == set()
