"""Every notebook runs from top to bottom, and what is committed of it is fit to be read."""

import os
import re
import socket
import subprocess
import symtable
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from prospect_lib import sandbox
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import Settings
from tests.conftest import free_port
from tests.support.accounts import run_notebook
from tools.run_notebooks import TIMEOUT

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
EXERCISE = re.compile(r"exercises\.(\w+)\(")
SAME_THING = {"problem"}  # a cell that reads the events gives it their window
SOLUTIONS = sorted(FOLDER.glob("solutions/*.ipynb"))


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def pictures_of(cell: Any) -> list[str]:
    outputs = [output.get("data", {}).get("text/html", "") for output in cell.get("outputs", [])]
    return [html for html in outputs if html.startswith("<img ")]


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        "PROSPECT_HOME": str(settings.home),
        "PROSPECT_PORT": str(settings.sandbox_port),
        "PREDICT_PORT": str(settings.predict_port),
    }


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home that notebooks 01 to 05 share, as a reader's do, with a third of its visitors."""
    home = tmp_path_factory.mktemp("home")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    history.write(home, visitors=2500, days=60, end=midnight)
    settings = Settings(home=home, sandbox_port=free_port(), predict_port=free_port())
    yield settings
    sandbox.stop(settings)


@pytest.fixture
def empty_home(home_settings: Settings) -> Iterator[Settings]:
    """The home of a reader's first notebook, which simulates all visitors."""
    yield home_settings
    sandbox.stop(home_settings)


def with_solutions(path: Path) -> Any:
    """Return a notebook with the solution of each exercise below the cell of the exercise."""
    solutions: dict[str, list[Any]] = {}
    waiting: list[Any] = []
    for cell in nbformat.read(FOLDER / "solutions" / path.name, as_version=4).cells:
        if re.match(r"## \d", cell.source):
            waiting = []
        elif cell.cell_type == "code":
            waiting.append(nbformat.v4.new_code_cell(cell.source))
            for exercise in EXERCISE.findall(cell.source):
                solutions[exercise], waiting = waiting, []
    notebook, cells = nbformat.read(path, as_version=4), []
    for cell in notebook.cells:
        exercise = EXERCISE.search(cell.source) if cell.cell_type == "code" else None
        cells += [cell, *solutions[exercise[1]]] if exercise else [cell]
    notebook.cells = cells
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_every_cell_of_a_notebook_runs_under_nbval_and_its_solutions_inside_it(
    path: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = request.getfixturevalue("empty_home" if path == NOTEBOOKS[0] else "series")
    nbformat.write(with_solutions(path), tmp_path / path.name)
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "nbval.plugin",
        "-W", "default",
        "--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={TIMEOUT}",
        str(tmp_path / path.name),
    ]  # fmt: skip
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the other plugins take seconds to start
    run = subprocess.run(
        command, env=os.environ | environment_of(settings) | alone, cwd=FOLDER,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:]


@pytest.mark.parametrize("path", SOLUTIONS, ids=name_of)
def test_solutions_run_alone(path: Path, series: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    for name, value in environment_of(series).items():
        monkeypatch.setenv(name, value)
    run_notebook(path)


@pytest.mark.parametrize("path", [*NOTEBOOKS, *SOLUTIONS], ids=name_of)
def test_a_committed_notebook_is_executed_small_and_free_of_the_machines_names(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size < 500_000
    outputs = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert not re.search(r"/home/|/root|/tmp/|/work/|/Users/|site-packages|Collecting ", outputs)
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", outputs)
    for cell in code:
        lines = cell.source.splitlines()
        assert len(lines) <= 20 and max(map(len, lines)) <= 92
        assert not any(output.output_type == "error" for output in cell.outputs)


def test_the_series_explains_more_than_it_codes_and_its_links_exist() -> None:
    prose, code = "\n".join(sources("markdown")), "\n".join(sources("code"))
    assert len(prose.split()) > 7 * len(code.splitlines())
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        assert link.startswith("http") or (FOLDER / link).exists(), link


def test_the_series_shows_the_thing_itself() -> None:
    code = "\n".join(sources("code"))
    for shown in (
        "= Attribute(",
        "xgb.train(",
        '@app.post("/predict")',
        "open_tunnel(",
        "snowflake",
    ):
        assert shown in code


def sources(kind: str) -> Iterator[str]:
    """Yield the sources of the notebooks' cells of a kind, without the install cells."""
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == kind and '"google.colab"' not in cell.source:
                yield cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_opens_with_what_it_needs_and_a_picture(path: Path) -> None:
    first, install, *opening = nbformat.read(path, as_version=4).cells[:6]
    assert first.source.startswith(("[![Open in Colab](", "*In Colab: upload"))
    for heading in ("**At the end**", "**You need**", "**It takes**", "README.md#glossary"):
        assert heading in first.source
    assert '"google.colab" in sys.modules' in install.source and not install.outputs
    assert any(pictures_of(cell) for cell in opening)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_picture_has_alternative_text(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        for html in pictures_of(cell):
            alt = re.match(r'<img alt="([^"]+)"', html)
            assert alt and len(alt[1].split()) > 10, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_exercises_are_unsolved_in_a_notebook_and_solved_in_its_solution(path: Path) -> None:
    def exercises(notebook: Path) -> set[str]:
        cells = nbformat.read(notebook, as_version=4).cells
        code = "".join(cell.source for cell in cells if cell.cell_type == "code")
        return set(re.findall(r"exercises\.(\w+)\(", code))

    names = exercises(path)
    assert 2 <= len(names) <= 3 and exercises(FOLDER / "solutions" / path.name) == names
    assert path.read_text(encoding="utf-8").count("Not yet: ") == len(names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_what_a_cell_reads_of_another_is_assigned_by_one_cell(path: Path) -> None:
    """Otherwise a cell that runs twice, or an exercise at the end, reads another thing's value."""
    assigned, read = defaultdict(set), defaultdict(set)
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type == "code":
            code = TransformerManager().transform_cell(cell.source)
            for name, is_set in names_of(symtable.symtable(code, path.name, "exec")):
                (assigned if is_set else read)[name].add(number)
    several = {name for name, cells in assigned.items() if len(cells) > 1 and read[name] - cells}
    assert several <= SAME_THING


def names_of(table: symtable.SymbolTable, is_module: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield the globals of a cell that it assigns (true) or reads (false), without imports."""
    for symbol in table.get_symbols():
        if is_module and symbol.is_assigned() and not symbol.is_imported():
            yield symbol.get_name(), True
        if symbol.is_referenced() and (is_module or symbol.is_global()):
            yield symbol.get_name(), False
    for inner in table.get_children():
        yield from names_of(inner, is_module=False)
