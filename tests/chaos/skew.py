"""A clock that is wrong by as much as a scenario says, for any process started with it.

A shim of C is loaded before the C library; it adds an offset, read from a file that is
mapped into every process, to what the wall clock says. The monotonic clock stays right.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset_us;

__attribute__((constructor)) static void begin(void) {
    static long long none;
    const char *path = getenv("PENSTOCK_TEST_SKEW");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap(0, sizeof none, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    offset_us = at == MAP_FAILED ? &none : at;
}

static void shift(long long *s, long long *us) {
    if (!offset_us) return;
    long long all = *s * 1000000LL + *us + *offset_us;
    *s = all / 1000000LL;
    *us = all % 1000000LL;
}

int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, at);
    if (code || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return code;
    long long s = at->tv_sec, us = at->tv_nsec / 1000, ns = at->tv_nsec % 1000;
    shift(&s, &us);
    at->tv_sec = s;
    at->tv_nsec = us * 1000 + ns;
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int code = real(at, zone);
    if (code || !at) return code;
    long long s = at->tv_sec, us = at->tv_usec;
    shift(&s, &us);
    at->tv_sec = s;
    at->tv_usec = us;
    return 0;
}

time_t time(time_t *out) {
    struct timeval at;
    gettimeofday(&at, 0);
    if (out) *out = at.tv_sec;
    return at.tv_sec;
}
"""


def compiler() -> str | None:
    """The system's C compiler; None without one."""
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> Path:
    """Compiles the shim into a folder; the library's path."""
    source, library = folder / "skew.c", folder / "skew.so"
    source.write_text(_SHIM)
    command = [str(compiler()), "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Clock:
    """A wall clock that is `offset_s` off, for processes that get its `environment`."""

    def __init__(self, library: Path, name: str = "clock") -> None:
        self._file = library.parent / f"{name}.offset"
        self._file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "PENSTOCK_TEST_SKEW": str(self._file)}

    def set(self, offset_s: float) -> None:
        """From now on the clock is so much ahead (or, below 0, behind)."""
        fd = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(fd, struct.pack("q", int(offset_s * 1_000_000)), 0)
        finally:
            os.close(fd)
