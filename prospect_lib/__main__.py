"""``python -m prospect_lib``: see :mod:`prospect_lib.cli`."""

import sys

from prospect_lib.cli import main

sys.exit(main())
