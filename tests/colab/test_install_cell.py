"""The first cell of a notebook in Colab: which source it installs, by a real pip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from tests.colab.run import ROOT
from tools.stamp_notebooks import Address

PUBLISHED = Address("https://github.com/someone/else", "v1.2.3")
PLACEHOLDER = Address("https://github.com/your_organisation/prospect-scoring", "v1.2.3")
COLAB = """
import pathlib, subprocess, sys
from types import ModuleType

class IPython:
    def run_line_magic(self, magic, line):
        arguments = line.format(source=source).split()
        print(magic, *arguments)
        if arguments[-1].endswith("prospect-scoring.zip"):
            pip = [sys.executable, "-m", "pip", *arguments, "--target", "installed"]
            subprocess.run(pip, check=True)
        else:
            sys.path.append(ROOT)
        from prospect_lib import colab
        colab.prepare = lambda: print(colab.__file__)

get_ipython = IPython
pathlib.Path("installed").mkdir()
sys.path.insert(0, "installed")
sys.modules["google.colab"] = ModuleType("google.colab")
"""


def run_cell(folder: Path, address: Address) -> subprocess.CompletedProcess[str]:
    """Run the install cell in a Python without packages, as if ``folder`` were ``/content``."""
    cell = TransformerManager().transform_cell(address.install())
    script = COLAB.replace("ROOT", repr(str(ROOT))) + cell
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_uploaded_bundle_is_installed(tmp_path: Path) -> None:
    path = tmp_path / "prospect-scoring.zip"
    subprocess.run(["make", "-s", "bundle", f"BUNDLE={path}"], cwd=ROOT, check=True)
    run = run_cell(tmp_path, PUBLISHED)
    assert run.stdout.splitlines() == [
        "pip install -q --no-deps prospect-scoring.zip",
        str(tmp_path / "installed/prospect_lib/colab.py"),
    ], run.stderr
    assert (tmp_path / "installed/prospect_lib/sandbox/website/pages/home.html").is_file()


@pytest.mark.parametrize("published", [True, False])
def test_a_checkout_in_drive_is_installed(tmp_path: Path, published: bool) -> None:
    (tmp_path / "drive/MyDrive/prospect-scoring").mkdir(parents=True)
    run = run_cell(tmp_path, PUBLISHED if published else PLACEHOLDER)
    assert "pip install -q --no-deps drive/MyDrive/prospect-scoring\n" in run.stdout, run.stderr


def test_without_either_the_public_address_is_installed(tmp_path: Path) -> None:
    run = run_cell(tmp_path, PUBLISHED)
    address = "https://github.com/someone/else/archive/refs/tags/v1.2.3.zip"
    assert f"pip install -q --no-deps {address}\n" in run.stdout, run.stderr


def test_before_publication_the_cell_says_what_to_do(tmp_path: Path) -> None:
    run = run_cell(tmp_path, PLACEHOLDER)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("AssertionError: Not published yet: run `make bundle`")
    assert "upload" in last and run.stdout == ""
