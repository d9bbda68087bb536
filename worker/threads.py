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


class Threads:
    """The threads of this process's libraries. Where the user has set the variable, it stays as it is."""

    def __init__(self) -> None:
        self._count = 0 if VARIABLE in os.environ else 1
        if self._count:
            os.environ[VARIABLE] = "1"

    def use(self, cpus: int) -> None:
        """The next job has so many cpus, at least 1."""
        if cpus == self._count or not self._count:
            return
        self._count = cpus
        os.environ[VARIABLE] = str(cpus)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(cpus)
        if "numpy" in sys.modules:
            with suppress(ImportError):  # it comes with scikit-learn
                from threadpoolctl import threadpool_limits

                threadpool_limits(cpus)
