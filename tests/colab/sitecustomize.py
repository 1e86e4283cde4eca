"""Put on PYTHONPATH, this makes a kernel believe that it is Colab's: see ``run.py``."""

import sys
from types import ModuleType

from tests.support.fake_colab import Output, UserData

colab = ModuleType("google.colab")
colab.userdata, colab.output = UserData({}, set(), page=True), Output()  # type: ignore[attr-defined]
sys.modules["google.colab"] = colab
