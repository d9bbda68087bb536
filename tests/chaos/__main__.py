"""`python -m chaos`, with `tests` on the path; see runner.py."""

import sys

from .runner import main

sys.exit(main())
