"""Code roots: what changes a digest, and what must not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.common import code
from penstock.common.code import code_root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "pkg" / "deep").mkdir(parents=True)
    (root / "flow.yaml").write_text("name: x\n")
    (root / "steps.py").write_text("def step(): return 1\n")
    (root / "pkg" / "__init__.py").write_text("")
    (root / "pkg" / "deep" / "more.py").write_text("x = 1\n")
    return root


def test_the_same_content_gives_the_same_digest(folder: Path, tmp_path: Path) -> None:
    before = code_root(folder)
    assert before.root == str(folder)
    assert len(before.digest) == 16
    assert int(before.digest, 16) >= 0
    os.utime(folder / "steps.py", (1, 1))
    assert code_root(folder) == before
    moved = folder.rename(tmp_path / "elsewhere")
    assert code_root(moved).digest == before.digest


@pytest.mark.parametrize("file", ["steps.py", "pkg/__init__.py", "pkg/deep/more.py", "new.py"])
def test_an_edited_or_new_file_changes_it(folder: Path, file: str) -> None:
    before = code_root(folder)
    (folder / file).write_text("y = 2\n")
    assert code_root(folder).digest != before.digest


def test_a_renamed_file_changes_it(folder: Path) -> None:
    before = code_root(folder)
    (folder / "steps.py").rename(folder / "stages.py")
    assert code_root(folder).digest != before.digest


@pytest.mark.parametrize(
    "file",
    [
        "flow.yaml",
        "data.csv",
        ".git/hook.py",
        "__pycache__/steps.py",
        "node_modules/tool/gyp.py",
        "lib/site-packages/numpy.py",
    ],
)
def test_what_is_no_code_of_the_project_does_not_count(folder: Path, file: str) -> None:
    before = code_root(folder)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("z = 3\n")
    assert code_root(folder).digest == before.digest


def test_an_environment_does_not_count_but_a_project_in_one_does(folder: Path) -> None:
    before = code_root(folder)
    (folder / "env" / "bin").mkdir(parents=True)
    (folder / "env" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (folder / "env" / "bin" / "tool.py").write_text("t = 1\n")
    assert code_root(folder).digest == before.digest
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    assert code_root(folder).digest == before.digest


def test_past_the_limit_a_file_counts_by_size_and_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "MAX_FILES", 0)
    before = code_root(folder)
    assert code_root(folder) == before
    os.utime(folder / "steps.py", (1, 1))
    assert code_root(folder).digest != before.digest


def test_a_file_that_cannot_be_read_is_passed_over(folder: Path) -> None:
    before = code_root(folder)
    (folder / "gone.py").symlink_to(folder / "nowhere.py")
    assert code_root(folder).digest == before.digest


def test_a_loop_of_links_ends(folder: Path) -> None:
    (folder / "pkg" / "loop").symlink_to(folder)
    assert code_root(folder) == code_root(folder)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(NotADirectoryError):
        code_root(folder / "steps.py")
