"""On PYTHONPATH, this makes every Python believe that it is a Colab kernel: see ``run.py``."""

import sys
from types import ModuleType

from tests.support.fake_colab import Output, UserData

colab = ModuleType("google.colab")
colab.userdata, colab.output = UserData({}, set(), page=True), Output()  # type: ignore[attr-defined]
sys.modules["google.colab"] = colab
