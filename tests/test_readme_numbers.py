"""Every figure in the README is one that a benchmark wrote, or one of its settings; those of
``docs/scale.md`` are such, or assumed by name, or follow from these."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NUMBER = re.compile(r"(?<![\w.])(\d[\d,]*(?:\.\d+)?)(%| M\b)?")


def paragraphs() -> Iterator[tuple[str, list[str]]]:
    """The README's paragraphs that name benchmarks, and which."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for paragraph in re.split(r"\n\s*\n", text):
        if named := re.findall(r"`benchmarks/(\w+)\.py`", paragraph):
            yield paragraph, named


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a result, those within its texts and keys too."""
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


def shown(written: str, unit: str, known: list[float], settings: set[float]) -> bool:
    """Whether a number, as precise as it is written, is a known one."""
    digits = len(written.partition(".")[2])
    value = float(written.replace(",", ""))
    scale = {"%": 100.0, " M": 1e-6}.get(unit, 1.0)
    # 'about 10%', '20 to 40 times': round figures are good to a tenth, others to a digit
    near = 0.1 * value if value >= 10 and value % 10 == 0 else 0.5 * 10**-digits
    candidates = [k * scale for k in known] + [k for k in known if unit == "%"]
    return any(abs(k - value) <= near * 1.001 for k in candidates) or value in settings


@pytest.mark.parametrize(("paragraph", "named"), list(paragraphs()))
def test_a_figure_comes_from_a_result_or_from_the_settings(paragraph: str, named: list[str]):
    known: list[float] = []
    settings: set[float] = set()
    for name in named:
        result = ROOT / "benchmarks" / "results" / f"{name}.json"
        assert result.is_file(), f"{name}.py has written no result: run it"
        known += numbers(json.loads(result.read_text(encoding="utf-8")))
        source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        settings |= {float(n.replace("_", "").replace(",", "")) for n in
                     re.findall(r"(?<![\w.])\d[\d_,]*(?:\.\d+)?", source)}  # fmt: skip
    text = re.sub(r"`[^`]*`|\([^)]*published[^)]*\)", "", paragraph)
    unknown = [
        f"{written}{unit}"
        for written, unit in NUMBER.findall(text)
        if not shown(written.rstrip(","), unit, known, settings)
    ]
    assert not unknown, f"in no result of {named}: {unknown}"


def test_every_benchmark_is_named_and_a_made_up_figure_is_noticed():
    named = {name for _, names in paragraphs() for name in names}
    assert named and all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in named)
    assert not shown("7.4", "", [6.9, 2.0], {3.0})
    assert shown("7.4", "", [7.42], set()) and shown("56", "%", [0.56], set())


def rows(title: str) -> list[list[str]]:
    """The cells of a table of ``docs/scale.md``, below its head."""
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    lines = page.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ][2:]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def digits(text: str) -> float:
    """Half of the last digit that is written."""
    return 0.5 * 10 ** -len(text.partition(".")[2])


def computed(node: ast.AST, names: dict[str, float]) -> float:
    """A formula of names, numbers and the four operations."""
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Constant):
        return float(node.value)
    assert isinstance(node, ast.BinOp), ast.dump(node)
    left, right = computed(node.left, names), computed(node.right, names)
    operations = {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}
    return operations[type(node.op)] if type(node.op) in operations else left / right


def test_the_measured_figures_of_the_estimate_are_in_the_results() -> None:
    for name, value, _, where in rows("Measured"):
        file, path = re.fullmatch(r"`(\w+\.json)`: (.+)", where).groups()
        found = json.loads((RESULTS / file).read_text(encoding="utf-8"))
        for key in path.split(" / "):
            found = found[key]
        assert abs(found - number(value)) <= digits(value), (name, found)


def test_the_estimate_follows_from_what_is_measured_and_assumed() -> None:
    given = [*rows("Assumed"), *rows("Measured")]
    names = {row[0].strip("`"): number(row[1]) for row in given}
    assert len(names) == len(given) >= 20
    unused = set(names)
    for what, how, value in rows("It follows"):
        name, formula = re.fullmatch(r"`(\w+) = (.+)`", how).groups()
        tree = ast.parse(formula, mode="eval").body
        unused -= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names[name] = computed(tree, names)
        assert abs(names[name] - number(value)) <= digits(value), (what, names[name])
    assert not unused
