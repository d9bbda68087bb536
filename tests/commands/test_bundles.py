"""Code reaches nodes that have none of it."""  # W13

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.common.code import PYTHON
from penstock.common.jobs import NodeInfo
from support.processes import as_yaml

TEXT = {"model.py": "from pathlib import Path\nimport helper\n\ndef answer():\n"
        "    return [helper.WORD, Path('data/a.txt').read_text()]\n",
        "helper.py": "WORD = 'bundled'\n", "data/a.txt": "read"}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, text in TEXT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def node(machines, home):
    """A node whose data folder is its own."""
    machines.orchestrator()
    return machines.worker("n", concurrency=1, PENSTOCK_HOME=str(home))


def submitted(machines, project: Path, run: str, *options: str) -> str:
    file = as_yaml(project / "w.json", {"name": "w", "jobs": [{"id": "a", "run": run, "retry": 0}]})
    return machines.submit(file, *options)


def test_a_node_runs_what_it_never_had(machines, node, home, project):
    machines.client.set("rq:suspended", 1)
    execution = submitted(machines, project, "model:answer", "--bundle", str(project))
    shutil.rmtree(project)
    machines.client.delete("rq:suspended")
    assert machines.wait(execution)["result"] == ["bundled", "read"]
    assert machines.service.store.execution(execution)["root"].startswith("bundle:")
    assert len([path for path in (home / "bundles").iterdir() if path.is_dir()]) == 1


def test_only_the_executions_that_name_it_use_it(machines, node, project):
    bundled = submitted(machines, project, "model:answer", "--bundle", str(project))
    assert machines.wait(bundled)["result"] == ["bundled", "read"]
    (project / "helper.py").write_text("WORD = 'edited'\n")
    assert machines.wait(submitted(machines, project, "model:answer"))["result"][0] == "edited"
    again = machines.run("retry", bundled)
    assert machines.wait(again.stdout.strip())["result"] == ["bundled", "read"]


def test_what_a_node_lacks_is_told_at_once_and_before_the_job_runs(
    machines, node, project, tmp_path
):
    for name in ("of_mars", "of_venus"):
        (tmp_path / "installed" / name).mkdir(parents=True)
        (tmp_path / "installed" / name / "__init__.py").touch()
    (project / "model.py").write_text(
        "import json, of_mars\nfrom of_venus import x\ndef answer(): 1\n"
    )
    (tmp_path / "installed/of_venus/__init__.py").write_text("x = 1\n")
    machines.environment["PYTHONPATH"] = str(tmp_path / "installed")
    execution = submitted(machines, project, "model:answer", "--bundle", str(project))
    found = machines.wait(execution)["jobs"]["a"]["error"]
    assert found["type"] == "CodeMissing"
    assert found["message"].endswith("not installed on this node: of_mars, of_venus")


def test_nodes_of_another_python_are_named_at_submit(machines, node, project):
    assert machines.service.nodes()[0]["python"] == PYTHON
    other = NodeInfo("old", "old1", "elsewhere", 1, ("old",), 1, {"cpus": 1.0}, python="3.9")
    machines.service.store.register(other)
    file = as_yaml(project / "w.json", {"jobs": [{"id": "a", "run": "model:answer"}]})
    done = machines.run("submit", str(file), "--bundle", str(project))
    machines.service.store.leave("old", "old1", "test")
    assert done.returncode == 0
    assert f"packed with Python {PYTHON}, and node old has 3.9:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_that_does_not_hold_the_file_is_refused(machines, project, tmp_path):
    (tmp_path / "other").mkdir()
    file = as_yaml(project / "w.json", {"jobs": [{"id": "a", "run": "model:answer"}]})
    done = machines.run("submit", str(file), "--bundle", str(tmp_path / "other"), "--json")
    assert done.returncode == 2
    assert "not in the bundle" in json.loads(done.stdout)["error"]["message"]
    assert machines.client.keys("penstock:bundle:*") == []


PROGRAM = """
import penstock
from penstock import Cluster, task, workflow
import model

@task
def word():
    return model.answer()[0]

@workflow
def two():
    return [word().result() for _ in range(2)]

if __name__ == "__main__":
    with Cluster(bundle=".") as cluster:
        print(word().result(), two().result())
"""


def test_a_program_and_the_tasks_of_its_tasks_are_bundled(machines, node, home, project):
    (project / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=project, env=machines.environment, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "bundled ['bundled', 'bundled']", done.stderr
    roots = {
        machines.service.store.execution(member.decode())["root"]
        for member in machines.client.zrange("penstock:executions", 0, -1)
    }
    assert len(roots) == 1
    assert roots.pop().startswith("bundle:")
