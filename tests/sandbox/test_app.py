"""The sandbox as one application."""

import subprocess
import sys


def test_starting_does_not_wait_for_the_model_and_the_prediction_server() -> None:
    code = "import sys, prospect_lib.sandbox.app; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "prospect_lib.sandbox.events" in loaded
    assert not loaded & {"xgboost", "sklearn", "matplotlib", "prospect_lib.server.app"}
