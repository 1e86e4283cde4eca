"""Every result in ``benchmarks/results`` was measured with the code of today."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import figures  # noqa: E402


def test_no_result_is_older_than_the_code_that_it_measures() -> None:
    assert not figures.stale(), "run `make bench`: it renews exactly these"


def test_every_result_belongs_to_a_benchmark() -> None:
    assert sorted(file.stem for file in figures.RESULTS.glob("*.json")) == figures.names()


SOURCE = '''"""A module."""

def positive(value: int) -> int:
    """Return a value."""
    if value < 0:  # a debt
        raise ValueError("no")
    return value * 2
'''


@pytest.mark.parametrize(
    ("old", "new", "equal"),
    [
        ("A module", "One module", True),
        ("# a debt", "# an error", True),
        ('"no"', 'f"{value} is negative: give a number from 0"', True),
        ("    return", "\n    return", True),
        ("value * 2", "value * 3", False),
        ("value < 0", "value < 1", False),
    ],
)
def test_a_hash_changes_with_statements_and_not_with_words(
    tmp_path: Path, old: str, new: str, equal: bool
) -> None:
    before, after = tmp_path / "before.py", tmp_path / "after.py"
    before.write_text(SOURCE)
    after.write_text(SOURCE.replace(old, new))
    assert old in SOURCE
    assert (figures.statements(before) == figures.statements(after)) is equal


@pytest.mark.parametrize(
    ("benchmark", "module"),
    [
        ("features", "prospect_lib/sql/running_totals.py"),
        ("scale", "benchmarks/features.py"),
        ("processes", "prospect_lib/server/wsgi.py"),  # named in a command, not imported
        ("sandbox", "prospect_lib/sandbox/collector/routes.py"),  # so is the sandbox's process
        ("cluster", "prospect_lib/model/dask.py"),
        ("ceiling", "prospect_lib/sandbox/simulation/walk.py"),
        ("audit", "prospect_lib/monitoring/search.py"),
    ],
)
def test_a_benchmark_depends_on_what_it_measures(benchmark: str, module: str) -> None:
    assert ROOT / module in figures.modules(figures.HERE / f"{benchmark}.py")


def test_a_benchmark_does_not_depend_on_what_it_does_not_measure() -> None:
    features = figures.modules(figures.HERE / "features.py")
    assert not [file for file in features if {"server", "sandbox", "jobs"} & set(file.parts)]
