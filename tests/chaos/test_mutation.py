"""The checker finds out a product that is broken on purpose."""  # Q5 Q13

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import penstock
from chaos.load import Load
from chaos.scenario import SCENARIOS, Run
from chaos.scenarios.stops import Stopped
from chaos.workflows import batch
from support.processes import until

PACKAGE = Path(penstock.__file__).parent
SOUND = "return job and job.status == 'started' and job.attempt == attempt and job.claim == claim"

pytestmark = pytest.mark.system


@pytest.fixture
def broken(tmp_path):
    """A folder with a copy of the package whose scripts take any token."""
    for part in ("common", "orchestrator", "worker"):
        shutil.copytree(PACKAGE / part, tmp_path / "penstock" / part)
    shutil.copy(PACKAGE / "__init__.py", tmp_path / "penstock")
    script = tmp_path / "penstock" / "common" / "state" / "lua" / "lib" / "job.lua"
    text = script.read_text()
    assert SOUND in text
    script.write_text(text.replace(SOUND, "return job ~= nil and job.claim ~= nil"))
    return tmp_path


def stop_one_node(folder, package):
    """A node is stopped with results on its way, given up, and goes on; the violations found."""
    run = Run(SCENARIOS["stop-node"], target=1, seed=1, short=True, keep=folder)
    with run.lab(package=package) as lab:
        lab.orchestrator()
        node, _ = lab.nodes(2)
        load = Load(lab, batch(8, s=0.3), ahead=1)
        load.await_work(node)
        until(lambda: any(one.node == node.name for one in lab.running()), what="its jobs run")
        stopped = Stopped(run, lab, node, late=True)
        assert stopped.late
        assert lab.await_recovery(stopped.fault)
        stopped.go_on()
        lab.finish()
    return {violation.invariant for violation in run.violations}


@pytest.mark.usefixtures("redis7")
def test_without_the_check_of_tokens_a_late_result_is_found_out(broken, tmp_path):
    assert stop_one_node(tmp_path / "kept", broken) & {"I2", "I3"}


@pytest.mark.usefixtures("redis7")
def test_with_it_there_is_none(tmp_path):
    assert stop_one_node(tmp_path / "kept", None) == set()
