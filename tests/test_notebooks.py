"""Every notebook runs top to bottom in the sandbox, and is fit to be read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from prospect_lib import sandbox
from prospect_lib.settings import Settings

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_all_notebooks_run_in_order(home_settings: Settings) -> None:
    environment = {
        **os.environ,
        "PROSPECT_HOME": str(home_settings.home),
        "PROSPECT_PORT": str(home_settings.sandbox_port),
        "PREDICT_PORT": str(home_settings.predict_port),
    }
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default",
        "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=240", *map(str, NOTEBOOKS),
    ]  # fmt: skip
    run = subprocess.run(
        command,
        env=environment,
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    sandbox.stop(home_settings)
    assert run.returncode == 0, run.stdout[-4000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_executed_small_and_tells_nothing_of_a_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size < 500_000
    assert not re.search(r"/home/|/root|/tmp/|/work/|site-packages", path.read_text())
    for cell in code:
        lines = cell.source.splitlines()
        assert len(lines) <= 30 and max(map(len, lines)) <= 92
        assert not any(output.output_type == "error" for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prose_outweighs_code_and_links_lead_on(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = sum(len(c.source.splitlines()) for c in notebook.cells if c.cell_type == "code")
    assert len(prose.split()) > 2 * code
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert link.startswith("http") or (FOLDER / link).exists(), link
