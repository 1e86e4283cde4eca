"""README and docs agree with the repository: links, secrets, and every figure.

A figure in the README is a result of the benchmark that its paragraph names, or a setting in
that benchmark. A figure in ``docs/scale.md`` is such a result, a named assumption, or follows
from these.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prospect_lib.doctor.accounts import warehouse_checks
from prospect_lib.errors import ServiceError
from prospect_lib.problem import load_problem
from prospect_lib.settings import SECRET_NAMES, Settings
from tests.test_cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "notebooks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = ROOT / "benchmarks" / "results"
NUMBER = re.compile(r"(?<![\w.])(\d[\d,]*(?:\.\d+)?)(%| M\b)?")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_secrets_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:SP|SF|SIGNALS|NGROK|DATABRICKS)_\w+|ATOMIC_TABLE)`", text):
        assert name in SECRET_NAMES
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_the_tables_of_combinations_have_every_command() -> None:
    text = (ROOT / "docs" / "accounts.md").read_text(encoding="utf-8")
    tables = text[text.index("## What happens with which secrets") :]
    assert [name for name in COMMANDS if f"`{name}`" not in tables] == []


class Powerless:
    """A connection to Snowflake with a role that may do nothing."""

    events = "SNOWPLOW_DB.ATOMIC.EVENTS"

    def query(self, _: str) -> pa.Table:
        return pa.table({"role": ["PROSPECT"], "warehouse": pa.nulls(1, pa.string())})

    def run(self, _: str) -> None:
        raise ServiceError("no")

    def close(self) -> None:
        pass


def test_the_grants_of_the_page_are_those_that_the_doctor_asks_for(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "accounts.md").read_text(encoding="utf-8").upper()
    granted = set(re.findall(r"^GRANT (.+) TO ROLE PROSPECT;", text, re.MULTILINE))
    names = {"ATOMIC_TABLE": "snowplow_db.atomic.events", "SF_SCRATCH": "my_db.scratch"}
    checks = warehouse_checks(Settings(tmp_path, values=names), lambda _: Powerless())
    asked = [re.findall(r"^GRANT (.+) TO ROLE PROSPECT;", check.do.upper()) for check in checks]
    assert {"".join(grant).replace("<YOUR SF_WH>", "PROSPECT_WH") for grant in asked[1:]} == granted


def paragraphs() -> Iterator[tuple[str, list[str]]]:
    """Yield each paragraph of the README that names benchmarks, and their names."""
    for paragraph in re.split(r"\n\s*\n", README.read_text(encoding="utf-8")):
        if benchmarks := re.findall(r"`benchmarks/(\w+)\.py`", paragraph):
            yield paragraph, benchmarks


def numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in a result, including those within its keys and texts."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from numbers(str(name))
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, str):
        yield from (float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def is_known(written: str, unit: str, results: list[float], settings: set[float]) -> bool:
    """Return whether a number is a setting, or a result rounded as the number is written."""
    digits = len(written.partition(".")[2])
    value = float(written.replace(",", ""))
    scale = {"%": 100.0, " M": 1e-6}.get(unit, 1.0)
    # 'about 10%', '20 to 40 times': round numbers are good to a tenth, others to a digit
    tolerance = 0.1 * value if value >= 10 and value % 10 == 0 else 0.5 * 10**-digits
    candidates = [r * scale for r in results] + [r for r in results if unit == "%"]
    return any(abs(r - value) <= tolerance * 1.001 for r in candidates) or value in settings


@pytest.mark.parametrize(("paragraph", "benchmarks"), list(paragraphs()))
def test_every_figure_is_a_result_or_a_setting_of_its_benchmark(
    paragraph: str, benchmarks: list[str]
) -> None:
    results: list[float] = []
    settings: set[float] = set()
    for name in benchmarks:
        path = RESULTS / f"{name}.json"
        assert path.is_file(), f"{name}.py has written no result: run it"
        results += numbers(json.loads(path.read_text(encoding="utf-8")))
        source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        written = re.findall(r"(?<![\w.])\d[\d_,]*(?:\.\d+)?", source)
        settings |= {float(number.replace("_", "").replace(",", "")) for number in written}
    text = re.sub(r"`[^`]*`|\([^)]*published[^)]*\)", "", paragraph)
    unknown = [
        f"{written}{unit}"
        for written, unit in NUMBER.findall(text)
        if not is_known(written.rstrip(","), unit, results, settings)
    ]
    assert not unknown, f"in no result of {benchmarks}: {unknown}"


def test_the_named_benchmarks_exist() -> None:
    names = {name for _, benchmarks in paragraphs() for name in benchmarks}
    assert names and all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in names)


def test_a_made_up_figure_is_noticed() -> None:
    assert not is_known("7.4", "", [6.9, 2.0], {3.0})
    assert is_known("7.4", "", [7.42], set()) and is_known("56", "%", [0.56], set())


def table(title: str) -> list[list[str]]:
    """Return the cells of a table in ``docs/scale.md``, without its head."""
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    lines = page.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def rounding(text: str) -> float:
    """Return half of the last digit that is written."""
    return 0.5 * 10 ** -len(text.partition(".")[2])


def computed(node: ast.AST, names: dict[str, float]) -> float:
    """Return the value of a formula of names, numbers and the four operations."""
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Constant):
        return float(node.value)
    assert isinstance(node, ast.BinOp), ast.dump(node)
    left, right = computed(node.left, names), computed(node.right, names)
    operations = {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}
    return operations[type(node.op)] if type(node.op) in operations else left / right


def test_the_measured_figures_of_the_estimate_are_results() -> None:
    for name, value, _, source in table("Measured"):
        file, path = re.fullmatch(r"`(\w+\.json)`: (.+)", source).groups()
        result = json.loads((RESULTS / file).read_text(encoding="utf-8"))
        for key in path.split(" / "):
            result = result[key]
        assert abs(result - number(value)) <= rounding(value), (name, result)


def test_the_estimate_follows_from_the_measured_and_assumed_figures() -> None:
    rows = [*table("Assumed"), *table("Measured")]
    names = {row[0].strip("`"): number(row[1]) for row in rows}
    assert len(names) == len(rows) >= 20
    unused = set(names)
    for quantity, formula, value in table("It follows"):
        name, right = re.fullmatch(r"`(\w+) = (.+)`", formula).groups()
        tree = ast.parse(right, mode="eval").body
        unused -= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names[name] = computed(tree, names)
        assert abs(names[name] - number(value)) <= rounding(value), (quantity, names[name])
    assert not unused


def test_the_problem_of_the_page_about_your_own_site_can_be_loaded(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "your_site.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "problem = " in b)
    file = tmp_path / "my_site.py"
    file.write_text(block, encoding="utf-8")
    problem = load_problem(str(file))
    assert problem.key == "user_id"
    assert [f.name for f in problem.features][2] == "has_ordered_l30d"
