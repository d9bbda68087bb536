"""`python -m chaos`, with `tests` on the path; see runner.py."""

import signal
import sys

from .runner import main

# An exit unwinds: labs end what they started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
sys.exit(main())
