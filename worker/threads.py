"""How many threads numerical libraries use in a job: as many as the job has cpus.

Left alone, each takes a thread for every core of the machine, and the jobs of a full node hold each
other up. OpenMP's variable is read by OpenBLAS, MKL, NumExpr and PyTorch too, when they are loaded; a
library that an earlier job has loaded is told.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

VARIABLE = "OMP_NUM_THREADS"
#: how many processes joblib starts at most, as for scikit-learn's `n_jobs=-1`
_OF_JOBLIB = "LOKY_MAX_CPU_COUNT"
#: what a user may have set for the worker
_OF_USERS = (VARIABLE, "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Threads:
    """The threads of this process's libraries. Where the user has set a variable, nothing is touched."""

    def __init__(self) -> None:
        self._variables = [VARIABLE, *({_OF_JOBLIB} - os.environ.keys())]
        self._count = 0 if any(name in os.environ for name in _OF_USERS) else 1
        if self._count:
            self._set(1)

    def use(self, cpus: int) -> None:
        """The next job has so many cpus, at least 1. What a library makes of it is not the job's fault."""
        if cpus == self._count or not self._count:
            return
        self._set(cpus)
        with suppress(Exception):
            if torch := sys.modules.get("torch"):
                torch.set_num_threads(cpus)
        with suppress(Exception):
            if "numpy" in sys.modules:
                from threadpoolctl import threadpool_limits

                threadpool_limits(cpus)  # type: ignore[no-untyped-call]

    def _set(self, cpus: int) -> None:
        self._count = cpus
        for name in self._variables:
            os.environ[name] = str(cpus)
