"""What this machine has: cpus, memory, disk, GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile


def detect_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def detect_ram() -> int:
    """Memory in bytes: the machine's, or the control group's limit where that is lower."""
    import psutil  # slow to import

    total: int = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                text = file.read().strip()
        except OSError:
            continue
        if text.isdecimal():
            return min(total, int(text))
    return total


def detect_disk() -> int:
    """Free bytes where temporary files lie."""
    return shutil.disk_usage(tempfile.gettempdir()).free


def detect_gpus() -> list[str]:
    """The names, for CUDA_VISIBLE_DEVICES, of the GPUs that this process may use."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run(
            [program, "-L"], check=False, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return gpu_names(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))


def gpu_names(count: int) -> list[str]:
    """The names of the first `count` GPUs, among those that the environment leaves visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(index) for index in range(count)]
    return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")][:count]
