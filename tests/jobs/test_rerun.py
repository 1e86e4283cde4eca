"""The command that runs every notebook again, on small notebooks of its own."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from prospect_lib.errors import SettingsError
from prospect_lib.settings import Settings
from tools import run_notebooks as notebooks

SETTINGS = Settings(Path("/somewhere/home"), sandbox_port=41000, predict_port=41001)
SOURCE = "import os\nprint(os.environ['PROSPECT_PORT'])\nprint(os.environ['PROSPECT_HOME'])"


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return new_output("stream", text=text, name=name)


def data(**kinds: str) -> nbformat.NotebookNode:
    return new_output("display_data", {k.replace("_", "/", 1): v for k, v in kinds.items()})


def one(*outputs: nbformat.NotebookNode, tags: tuple[str, ...] = ()) -> nbformat.NotebookNode:
    cell = new_code_cell("1", outputs=list(outputs), metadata={"tags": list(tags)})
    return new_notebook(cells=[new_markdown_cell("prose"), cell])


def test_what_tells_of_a_machine_or_a_moment_is_left_out() -> None:
    widget = new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})
    found = one(
        stream("at http://127.0.0.1:41000\n"), widget, stream("in /somewhere/home/models\n"),
        stream("careful", "stderr"), data(text_plain="127.0.0.1:41001", image_png="abc"),
    )  # fmt: skip
    found.cells[1].metadata["execution"] = {"iopub.status.busy": "now"}
    found.metadata["widgets"] = {}
    notebooks.cleaned(found, SETTINGS)
    first, second, third = found.cells[1].outputs
    assert first.text == "at http://127.0.0.1:9090\nin PROSPECT_HOME/models\n"
    assert second.name == "stderr" and third.data["text/plain"] == "127.0.0.1:9091"
    assert "execution" not in found.cells[1].metadata and "widgets" not in found.metadata


def test_a_difference_is_one_of_kind_or_of_a_tagged_output() -> None:
    was, now = stream("0.85"), stream("0.84")
    picture = data(image_png="abc")
    assert notebooks.different(one(was), one(now)) == []
    assert "cell 2" in notebooks.different(one(was), one(now, picture))[0]
    tagged = (notebooks.CHECKED,)
    assert notebooks.different(one(was, tags=tagged), one(was, tags=tagged)) == []
    assert "another output" in notebooks.different(one(was, tags=tagged), one(now))[0]


def test_notebooks_run_with_a_home_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SF_PWD", "hush")
    code = f"{SOURCE}\nassert 'SF_PWD' not in os.environ"
    path = tmp_path / "00_small.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)
    said: list[str] = []
    assert notebooks.run(tmp_path, check=True, say=said.append) == [
        "00_small.ipynb, cell 1: ['stdout'] in place of []"
    ]
    assert notebooks.run(tmp_path, say=said.append) == []
    (cell,) = nbformat.read(path, as_version=4).cells
    assert cell.outputs[0].text.endswith("PROSPECT_HOME\n") and cell.execution_count == 1
    assert len(said) == 2 and said[0].startswith("00_small.ipynb: ")
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    with pytest.raises(notebooks.NotebookError, match=r"(?s)00_small.*ZeroDivisionError"):
        notebooks.run(tmp_path, say=said.append)


def test_a_folder_without_notebooks(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no notebooks"):
        notebooks.run(tmp_path)
