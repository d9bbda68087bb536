"""A Slurm of one node on this machine, for the local backend of slurm-sdk."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from penstock.common.tied import tied
from support.processes import until

_CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPort={controller}
SlurmdPort={node}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MailProg=/bin/true
NodeName={host} CPUs={cpus} RealMemory=4000 State=UNKNOWN NodeAddr=127.0.0.1
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """munged, slurmctld and slurmd, from its making until `close`; `environment` finds them."""

    def __init__(self, folder: Path, cpus: int) -> None:
        """Raises FileNotFoundError where Debian's `slurm-wlm` is not installed."""
        for program in ("munged", "slurmctld", "slurmd", "sbatch"):
            if shutil.which(program) is None:
                raise FileNotFoundError(f"there is no {program}: apt-get install slurm-wlm")
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        for part in ("state", "spool"):
            (folder / part).mkdir()
        key = folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(64))
        controller, node = _free_ports()
        conf = folder / "slurm.conf"
        conf.write_text(
            _CONF.format(
                folder=folder, user=getpass.getuser(), host=socket.gethostname(), cpus=cpus,
                controller=controller, node=node,
            )
        )  # fmt: skip
        self.environment = {**os.environ, "SLURM_CONF": str(conf)}
        sock = folder / "munge.socket"
        self._start(
            *("munged", "--foreground", "--force", f"--socket={sock}", f"--key-file={key}"),
            *(f"--{part}-file={folder}/munged.{part}" for part in ("pid", "log", "seed")),
        )
        until(sock.exists, 10, "munged listens")
        self._start("slurmctld", "-D", "-i")
        self._start("slurmd", "-D")
        until(self._is_idle, 30, "Slurm's node is there")

    @staticmethod
    def version() -> str:
        """Of what is installed."""
        said = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True)
        return said.stdout.split()[-1]

    def _start(self, *command: str) -> None:
        with open(self._folder / f"{command[0]}.log", "wb") as log:
            process = subprocess.Popen(tied(command), env=self.environment, stdout=log, stderr=log)
        self._processes.append(process)

    def _is_idle(self) -> bool:
        command = ["sinfo", "--noheader", "--format=%T"]
        said = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return said.stdout.strip() == "idle"

    def close(self) -> None:
        """Ends it."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])
