"""What the repository's root being the package needs (docs/decisions/0001)."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: Folders that are no part of the package.
APART = {"tests", "examples", "benchmarks", "docs", "deploy", "build", "dist"}


def setuptools() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return dict(found["tool"]["setuptools"])


def folders() -> list[Path]:
    """The folders of the package, the root first."""
    found = [ROOT]
    for folder in found:
        found += [
            entry
            for entry in sorted(folder.iterdir())
            if entry.is_dir()
            and not entry.name.startswith((".", "__"))
            and not entry.name.endswith(".egg-info")
            and not (folder == ROOT and entry.name in APART)
        ]
    return found


def dotted(folder: Path) -> str:
    return ".".join(["penstock", *folder.relative_to(ROOT).parts])


def test_the_package_list_equals_the_folders() -> None:
    # One left out is missing only from the wheel, where no other test looks.
    with_init = [dotted(folder) for folder in folders() if (folder / "__init__.py").exists()]
    assert sorted(setuptools()["packages"]) == sorted(with_init)


def test_every_folder_of_code_is_a_package() -> None:
    bare = [
        dotted(folder)
        for folder in folders()
        if not (folder / "__init__.py").exists()
        and any(file.suffix in {".py", ".lua"} for file in folder.iterdir())
    ]
    assert bare == []


def test_every_script_is_package_data() -> None:
    data = setuptools()["package-data"]
    scripts = [script for folder in folders() for script in folder.glob("*.lua")]
    unmatched = [
        str(script.relative_to(ROOT))
        for script in scripts
        if not any(
            fnmatch.fnmatchcase(script.name, pattern)
            for pattern in data.get(dotted(script.parent), [])
        )
    ]
    assert unmatched == []


def test_our_folders_are_no_top_level_modules(tmp_path: Path) -> None:
    # A user's own `common` must be the one that a job imports.
    code = (
        "import importlib.util as u, penstock.common, penstock.worker, penstock.orchestrator; "
        "print([n for n in ('common', 'worker', 'orchestrator') if u.find_spec(n)])"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for folder in (ROOT, tmp_path):
        said = subprocess.run(
            [sys.executable, "-P", "-c", code],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == "[]"
