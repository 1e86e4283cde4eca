"""The main path and one notebook on Colab's package versions, on this machine's Python."""

import json
import os
import subprocess
from datetime import UTC, datetime

import nbformat
import pytest
from packaging.requirements import Requirement

from prospect_lib import sandbox
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import SECRET_NAMES, Settings
from tests.colab.run import HERE, ROOT, colab_kernel
from tools.run_notebooks import different, executed

PYTHON = ROOT / ".venv-colab" / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists() and "CI" not in os.environ,
    reason="no .venv-colab: `make .venv-colab/installed` creates it",
)


def test_the_environment_has_colabs_versions() -> None:
    code = "import json; from prospect_lib import colab; print(json.dumps(colab.installed()))"
    versions = json.loads(subprocess.check_output([PYTHON, "-c", code], text=True, cwd=ROOT))
    for line in (HERE / "versions.txt").read_text().splitlines():
        if not line.startswith("#"):
            required = Requirement(line)
            if not required.marker or required.marker.evaluate():
                assert versions[required.name.lower()] in required.specifier


def test_a_live_score_on_colabs_versions(home_settings: Settings) -> None:
    """History, training set, model, server and score, as ``make once`` computes them."""
    environment = {
        name: value for name, value in os.environ.items() if name not in SECRET_NAMES
    } | {
        "PROSPECT_HOME": str(home_settings.home),
        "PROSPECT_PORT": str(home_settings.sandbox_port),
        "PREDICT_PORT": str(home_settings.predict_port),
        "PYTHONPATH": str(ROOT),
    }
    run = subprocess.run(
        [PYTHON, "-m", "prospect_lib", "demo", "--once", "--visitors", "1500"],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    sandbox.stop(home_settings)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert 0 <= result["score_before"] < result["score"] <= 1
    assert 0.6 < result["auc"] < 1


def test_a_notebook_on_colabs_versions(home_settings: Settings) -> None:
    """Its cells compare the training set with the plain-Python definition of the attributes."""
    path = ROOT / "notebooks" / "02_extract_features.ipynb"
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    history.write(home_settings.home, visitors=1500, days=60, end=midnight)
    with colab_kernel(PYTHON):
        notebook = executed(path, home_settings)
    sandbox.stop(home_settings)
    committed = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    install = "cell 2: "  # prints what `colab.prepare` did, and nothing outside Colab
    assert [line for line in different(committed, notebook) if not line.startswith(install)] == []
