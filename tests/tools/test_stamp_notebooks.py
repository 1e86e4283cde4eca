"""The public address is set in pyproject.toml and stamped into notebooks and README."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from prospect_lib import __version__, colab
from prospect_lib.errors import SettingsError
from tests.support.fake_colab import enter
from tools import stamp_notebooks as stamp

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    return tmp_path


def test_notebooks_and_readme_have_the_current_address() -> None:
    assert stamp.stamp(ROOT, write=False) == []


def test_a_new_address_is_written_into_badges_and_install_cells(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = checkout / "pyproject.toml"
    old = stamp.Address.of(checkout).repository
    project.write_text(project.read_text().replace(old, "https://github.com/someone/else"))
    monkeypatch.chdir(checkout)
    assert stamp.main(["--check"]) == 1
    assert "out of date: README.md" in capsys.readouterr().out
    assert stamp.main([]) == 0 and stamp.main(["--check"]) == 0
    for path in (checkout / "README.md", checkout / "notebooks" / "00_start_here.ipynb"):
        text = path.read_text()
        assert f"someone/else/blob/v{__version__}/notebooks/00_start_here.ipynb" in text
        assert old not in text
    cells = nbformat.read(checkout / "notebooks" / "00_start_here.ipynb", as_version=4).cells
    code = "".join(cell.source for cell in cells if cell.cell_type == "code")
    assert 'public = "https://github.com/someone/else"' in code
    assert f"/archive/refs/tags/v{__version__}.zip" in code


@pytest.mark.parametrize(
    "text",
    ["", "[project.urls]\n", "not toml", '[project.urls]\nRepository = "https://gitlab.com/a/b"'],
)
def test_a_missing_or_unusable_address_is_an_error(
    tmp_path: Path,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"pyproject.toml"):
        stamp.Address.of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert stamp.main([]) == SettingsError.exit_code
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SettingsError, match=r"pyproject.toml"):
        stamp.Address.of(tmp_path / "nowhere")


def test_the_install_cell_does_nothing_elsewhere_and_installs_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = stamp.Address.of(ROOT).install()
    code = compile(TransformerManager().transform_cell(cell), "cell", "exec")
    calls: list[str] = []
    monkeypatch.setattr(colab, "prepare", lambda: calls.append("prepare"))
    exec(code, {})
    assert "google.colab" not in sys.modules and calls == []
    enter(monkeypatch)
    exec(code, {})  # the library is installed, so pip does not run
    assert calls == ["prepare"]
