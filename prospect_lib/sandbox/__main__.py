"""``python -m prospect_lib.sandbox``: the process that ``ensure_running`` starts."""

import sys

from prospect_lib.errors import ProspectError
from prospect_lib.sandbox.process import serve
from prospect_lib.settings import Settings

try:
    serve(Settings.load())
except ProspectError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
