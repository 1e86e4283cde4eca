"""Run the series on Colab's package versions: ``python tests/colab/run.py .venv-colab/bin/python``.

The notebooks execute in the given Python, in which ``versions.txt`` is installed and nothing
else: their first cell installs the rest, as it does in Colab, beside a stand-in for
``google.colab``. Nothing is written; what differs from the committed outputs is printed.
"""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tools import run_notebooks as notebooks

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main(python: str) -> int:
    """0 where every cell runs; the kernel named python3 is the given Python."""
    with TemporaryDirectory() as folder:
        kernel = Path(folder) / "kernels" / "python3"
        kernel.mkdir(parents=True)
        argv = [str(Path(python).absolute()), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        about = {"argv": argv, "display_name": "Python 3", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(about))
        os.environ["JUPYTER_PATH"] = folder
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (HERE, ROOT)))
        for line in notebooks.run(ROOT / "notebooks", check=True):
            print("differs:", line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
