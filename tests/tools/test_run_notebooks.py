"""Running the notebooks: cleaned outputs, differences, and errors that name the notebook."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from prospect_lib.errors import SettingsError
from prospect_lib.settings import Settings
from tools.run_notebooks import NotebookError, cleaned, different, executed, run


def stream(text: str) -> Any:
    return new_output("stream", name="stdout", text=text)


def notebook(*outputs: Any, tags: tuple[str, ...] = ()) -> Any:
    return new_notebook(cells=[new_code_cell("x", outputs=[*outputs], metadata={"tags": [*tags]})])


def test_outputs_are_free_of_the_runs_ports_home_and_widgets() -> None:
    settings = Settings(Path("/some/home"), sandbox_port=4001, predict_port=4002)
    widget = new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})
    page = new_output("display_data", {"text/html": "<a href=http://127.0.0.1:4002/>"})
    ran = notebook(stream("http://127.0.0.1:4001 "), widget, stream("/some/home"), page)
    ran.cells[0].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    (cell,) = cleaned(ran, settings).cells
    assert "execution" not in cell.metadata
    text, html = cell.outputs
    assert text.text == "http://127.0.0.1:9090 PROSPECT_HOME"
    assert html.data["text/html"] == "<a href=http://127.0.0.1:9091/>"


def test_an_output_of_another_kind_or_a_changed_reproducible_one_is_a_difference() -> None:
    picture = new_output("display_data", {"image/png": "x"})
    assert different(notebook(stream("1")), notebook(stream("2"))) == []
    assert different(notebook(stream("1")), notebook(picture)) == [
        "cell 1: ['image/png'] instead of ['stdout']"
    ]
    tags = ("nbval-check-output",)
    (line,) = different(notebook(stream("1"), tags=tags), notebook(stream("2"), tags=tags))
    assert "another output" in line


def test_a_cell_that_fails_names_the_notebook_and_the_error(home_settings: Settings) -> None:
    path = home_settings.home.parent / "broken.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    with pytest.raises(NotebookError, match=r"(?s)broken\.ipynb does not run.*ZeroDivisionError"):
        executed(path, home_settings)


def test_a_folder_without_notebooks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no notebooks"):
        run(tmp_path)
