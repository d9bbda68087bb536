"""Each run gets its own code: two folders with one module name, a file edited between runs."""  # W13

from __future__ import annotations

from pathlib import Path

from support.processes import as_yaml


def flow(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(f"def answer():\n    return {text!r}\n")
    return as_yaml(folder / "w.json", {"name": "w", "jobs": [{"id": "a", "run": "model:answer"}]})


def test_two_folders_with_a_module_of_the_same_name(machines, tmp_path):
    machines.orchestrator()
    machines.worker("n", concurrency=1)
    one, two = flow(tmp_path / "one", "one"), flow(tmp_path / "two", "two")
    for _ in range(2):
        assert machines.wait(machines.submit(one))["result"] == "one"
        assert machines.wait(machines.submit(two))["result"] == "two"


def test_a_file_edited_between_two_runs_under_up(home, tmp_path, machines):
    environment = {"PENSTOCK_HOME": str(home), "PENSTOCK_REDIS_URL": ""}
    assert machines.run("up", **environment).returncode == 0
    try:
        for text in ("before", "after", "before"):
            done = machines.run("run", str(flow(tmp_path / "code", text)), "--json", **environment)
            assert done.returncode == 0, done.stderr
            assert f'"result": "{text}"' in done.stdout or f'"result":"{text}"' in done.stdout
    finally:
        assert machines.run("down", **environment).returncode == 0
