"""Every notebook runs top to bottom in the sandbox, and is fit to be read."""

import itertools
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from prospect_lib import sandbox
from prospect_lib.settings import Settings

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SOLUTIONS = sorted(FOLDER.glob("solutions/*.ipynb"))


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def test_all_notebooks_run_in_order(home_settings: Settings) -> None:
    environment = {
        **os.environ,
        "PROSPECT_HOME": str(home_settings.home),
        "PROSPECT_PORT": str(home_settings.sandbox_port),
        "PREDICT_PORT": str(home_settings.predict_port),
    }
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default",
        "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600",
        *map(str, [*NOTEBOOKS, *SOLUTIONS]),
    ]  # fmt: skip
    run = subprocess.run(
        command,
        env=environment,
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    sandbox.stop(home_settings)
    assert run.returncode == 0, run.stdout[-4000:]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *SOLUTIONS], ids=name_of)
def test_a_notebook_is_executed_small_and_tells_nothing_of_a_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size < 500_000
    said = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert not re.search(r"/home/|/root|/tmp/|/work/|/Users/|site-packages|Collecting ", said)
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", said)
    for cell in code:
        lines = cell.source.splitlines()
        assert len(lines) <= 30 and max(map(len, lines)) <= 92
        assert not any(output.output_type == "error" for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_prose_outweighs_code_and_links_lead_on(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    written = [c.source for c in notebook.cells if c.cell_type == "code"]
    code = sum(len(c.splitlines()) for c in written if '"google.colab"' not in c)
    assert len(prose.split()) > 2 * code
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert link.startswith("http") or (FOLDER / link).exists(), link


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_opens_with_what_it_takes_and_a_picture(path: Path) -> None:
    first, install, *opening = nbformat.read(path, as_version=4).cells[:6]
    assert first.source.startswith("[![Open in Colab](")
    for said in ("**At the end**", "**You need**", "**It takes**"):
        assert said in first.source
    assert '"google.colab" in sys.modules' in install.source and not install.outputs
    outputs = [output for cell in opening for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_picture_is_followed_by_its_text(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    for cell, after in itertools.pairwise(cells):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert re.match(r"\*The pictures?: ", after.source), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_exercises_wait_to_be_solved_and_are_solved_in_their_folder(path: Path) -> None:
    def asked(where: Path) -> set[str]:
        cells = nbformat.read(where, as_version=4).cells
        code = "".join(cell.source for cell in cells if cell.cell_type == "code")
        return set(re.findall(r"exercises\.(\w+)\(", code))

    found = asked(path)
    assert 2 <= len(found) <= 3 and asked(FOLDER / "solutions" / path.name) == found
    assert path.read_text(encoding="utf-8").count("Not yet: ") == len(found)
