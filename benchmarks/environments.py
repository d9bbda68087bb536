"""A virtual environment for each other system, made once, under build/peers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "peers"

#: What pip installs. The versions are those that the results speak of.
REQUIREMENTS = {
    "rq": ["rq==3.0.0", "redis[hiredis]==8.1.0"],
    "celery": ["celery[redis]==5.7.0", "redis[hiredis]==8.1.0"],
    "dramatiq": ["dramatiq[redis]==2.2.1", "redis[hiredis]==8.1.0"],
    "arq": ["arq==0.28.0"],
    "saq": ["saq[redis,hiredis]==0.26.4", "typing_extensions"],
    "taskiq": [
        "taskiq==0.13.0",
        "taskiq-redis==1.2.4",
        "taskiq-pipelines==0.1.4",
        "redis[hiredis]==8.1.0",
    ],
    "huey": ["huey==3.5.4", "redis[hiredis]==8.1.0"],
    "dask": ["distributed==2026.8.0"],
    "ray": ["ray==2.60.0"],
    "dbos": ["dbos==3.4.0"],
    "slurm-sdk": ["slurm-sdk==0.4.6"],
    "prefect": ["prefect==3.8.8", "fastapi<0.150"],
}
_LIST = "import json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in %r}))"


def python(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is missing or out of date."""
    folder = FOLDER / peer
    interpreter = folder / "bin" / "python"
    stamp, wanted = folder / "installed", " ".join(REQUIREMENTS[peer])
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {wanted} into build/peers/{peer} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet", *REQUIREMENTS[peer]]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
        stamp.write_text(wanted)
    return interpreter


def versions(peer: str) -> dict[str, str]:
    """What is installed of it, and of the client library below it."""
    names = [one.partition("==")[0].partition("[")[0] for one in REQUIREMENTS[peer]]
    names += ["kombu"] if peer == "celery" else []
    said = subprocess.run(
        [str(python(peer)), "-c", _LIST % (names,)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(said.stdout))
