"""How a process hangs together with the one above it and those below it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def tie_to_parent(parent: int, sig: signal.Signals) -> None:
    """Lets the kernel send `sig` when the parent dies; exits when it is dead already.

    The setting does not pass to children, hence each process makes its own
    (prctl(2), PR_SET_PDEATHSIG).
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def become_subreaper() -> None:
    """Orphans below this process become its children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
