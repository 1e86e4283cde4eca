"""Run the whole series on Colab's package versions: ``python -m tests.colab.run PYTHON``.

``PYTHON`` is the interpreter of an environment with the packages of ``versions.txt`` and those
that ``colab.prepare`` adds; ``make colab`` creates it. A stand-in takes the place of
``google.colab``. Prints how the outputs differ from the committed ones, and writes nothing.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from tools import run_notebooks

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@contextmanager
def colab_kernel(python: Path) -> Iterator[None]:
    """Let notebooks run in another Python, with the stand-in for ``google.colab``."""
    with TemporaryDirectory() as folder:
        kernel = Path(folder) / "kernels" / "python3"
        kernel.mkdir(parents=True)
        argv = [str(python.absolute()), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        specification = {"argv": argv, "display_name": "Python 3", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(specification))
        # the folder of sitecustomize.py, which every Python imports at its start
        path = os.pathsep.join(map(str, (HERE, ROOT)))
        variables = {"JUPYTER_PATH": folder, "PYTHONPATH": path}
        variables["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else the old kernel prints warnings
        with patch.dict(os.environ, variables):
            yield


def main(python: str) -> int:
    """Run every notebook and solution; raise at the first cell that fails."""
    with colab_kernel(Path(python)):
        for line in run_notebooks.run(ROOT / "notebooks", check=True):
            print("differs:", line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
