"""A folder is packed by content, and unpacked once."""  # W13

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from penstock.common import bundles
from penstock.common.code import code_root, of_bundles
from penstock.common.errors import CodeMissing, InputError
from penstock.common.state import keys

LIMIT = 1024 * 1024


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, text in {
        "flow.yaml": "jobs: {}",
        "src/train.py": "import numpy_of_mars, os\nfrom . import x\ntry:\n    import maybe\nexcept ImportError: pass\n",
        "src/run.sh": "#!/bin/sh\n",
        "data/a.csv": "1,2\n",
        "model.bin": "weights",
        ".git/config": "secret",
        ".env": "secret",
        "__pycache__/x.pyc": "",
        "venv/pyvenv.cfg": "",
        "venv/lib/big.py": "",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "src/run.sh").chmod(0o755)
    return folder


def unpack(packed: bundles.Bundle, client, cache: Path, below: str = "") -> Path:
    bundles.store(client, packed, 100)
    return bundles.unpacked(packed.code(packed.folder / below).root, client, cache)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_a_project_has_arrives_and_nothing_hidden(project, fake, tmp_path):
    found = unpack(bundles.pack(project, LIMIT), fake.client, tmp_path / "cache")
    assert files(found) == {"flow.yaml", "src/train.py", "src/run.sh", "data/a.csv", "model.bin"}
    assert os.access(found / "src/run.sh", os.X_OK)
    assert not os.access(found / "src/train.py", os.X_OK)


def test_equal_content_is_one_bundle_wherever_it_is_and_whenever(project, tmp_path):
    first = bundles.pack(project, LIMIT)
    copy = project.rename(tmp_path / "elsewhere")
    os.utime(copy / "flow.yaml", (1, 1))
    assert bundles.pack(copy, LIMIT).digest == first.digest
    assert bundles.pack(copy, LIMIT).data == first.data
    (copy / "data/a.csv").write_text("1,3\n")
    assert bundles.pack(copy, LIMIT).digest != first.digest


@pytest.mark.parametrize("name", [bundles.IGNORE_FILE, ".gitignore"])
def test_what_is_ignored_stays(project, fake, tmp_path, name):
    (project / ".gitignore").write_text("src/\n")
    (project / name).write_text("# none of the weights\n*.bin\ndata/*\n!data/a.csv\n")
    found = unpack(bundles.pack(project, LIMIT), fake.client, tmp_path / "cache")
    assert files(found) == {"flow.yaml", "src/train.py", "src/run.sh", "data/a.csv"}


def test_one_that_is_too_large_is_refused_with_the_largest_names(project):
    (project / "weights.npy").write_bytes(os.urandom(2 * LIMIT))
    with pytest.raises(InputError, match=r"larger than 1 MiB packed .*weights\.npy 2\.0 MiB"):
        bundles.pack(project, LIMIT)
    with pytest.raises(InputError, match="no folder that could be packed"):
        bundles.pack(project / "none", LIMIT)


def test_modules_are_imported_from_a_folder_inside(project, fake, tmp_path):
    packed = bundles.pack(project, LIMIT)
    found = unpack(packed, fake.client, tmp_path / "cache", "src")
    assert files(found) == {"train.py", "run.sh"}
    for below in ("src", "", "data"):
        assert code_root(found.parent / below) == packed.code(project / below), (
            "for jobs of its jobs"
        )
    assert of_bundles.pop(str(found.parent))
    with pytest.raises(
        InputError, match=r"is not in the bundle of .*name a folder that holds both"
    ):
        packed.code(tmp_path)


@pytest.mark.parametrize("folder", ["venv/lib", ".git", "dist"])
def test_a_folder_that_stays_behind_is_no_place_for_code(project, folder):
    (project / ".gitignore").write_text("dist/\n")
    (project / "dist").mkdir()
    (project / "dist/w.yaml").touch()
    with pytest.raises(InputError, match=r"leaves .* out, where its functions are imported from"):
        bundles.pack(project, LIMIT).code(project / folder)


def test_links_inside_are_followed_and_those_that_lead_outside_refused(project, fake, tmp_path):
    (project / "linked").symlink_to(project / "src")
    (project / "src/loop").symlink_to(project)
    (project / "flow2.yaml").symlink_to(project / "flow.yaml")
    (project / "nowhere").symlink_to(project / "gone")
    (project / "itself").symlink_to("itself")
    found = unpack(bundles.pack(project, LIMIT), fake.client, tmp_path / "cache")
    assert {"flow2.yaml", "data/a.csv"} < files(found)
    assert any(name.endswith("train.py") for name in files(found))
    (project / "secret").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="secret is a link to outside of the bundle"):
        bundles.pack(project, LIMIT)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (b"\xff.py", b"", "whose name is no text"),
        (b".gitignore", b"\xe9\n", r"\.gitignore cannot be read"),
        (b".gitignore", b"!\n", r"\.gitignore cannot be read"),
    ],
)
def test_what_cannot_be_packed_is_named(project, name, content, message):
    (Path(os.fsdecode(os.fsencode(project) + b"/" + name))).write_bytes(content)
    with pytest.raises(InputError, match=message):
        bundles.pack(project, LIMIT)


def test_each_folder_has_its_own_gitignore(project, fake, tmp_path):
    (project / "src/.gitignore").write_text("*.sh\n")
    (project / "run.sh").touch()
    found = unpack(bundles.pack(project, LIMIT), fake.client, tmp_path / "cache")
    assert {name for name in files(found) if name.endswith(".sh")} == {"run.sh"}


def test_what_was_half_taken_away_is_no_bundle(project, fake, tmp_path, monkeypatch):
    """A sweep that is killed in the middle: the next one who needs the bundle has all of it."""
    cache = tmp_path / "cache"
    first = unpack(bundles.pack(project, LIMIT), fake.client, cache)
    whole, lock = files(first), cache / f"{first.name}.lock"
    for held in bundles._held:
        held.release()
    bundles._used_by_us.cache_clear()
    os.utime(lock, (1, 1))

    def killed(path: Path, ignore_errors: bool) -> None:
        (path / "flow.yaml").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        bundles._sweep(cache)
    monkeypatch.undo()
    (cache / first.name).mkdir()
    os.utime(lock, (1, 1))
    bundles._sweep(cache)
    assert files(unpack(bundles.pack(project, LIMIT), fake.client, cache)) == whole


def test_it_is_unpacked_once_and_kept_in_redis_from_its_last_use(project, fake, tmp_path):
    packed, cache = bundles.pack(project, LIMIT), tmp_path / "cache"
    found = unpack(packed, fake.client, cache)
    (found / "flow.yaml").write_text("mine")
    assert unpack(packed, fake.client, cache) == found
    assert (found / "flow.yaml").read_text() == "mine"
    key = keys.bundle(packed.digest)
    fake.client.expire(key, 5)
    bundles.store(fake.client, packed, 100)
    bundles.store(fake.client, packed, 20)
    assert fake.client.ttl(key) > 90, "it is never shortened"
    fake.client.expire(key, 5)
    bundles.unpacked(packed.code(project).root, fake.client, tmp_path / "other")
    assert fake.client.ttl(key) > 90


def test_one_that_is_gone_is_an_error_with_a_way_out(project, fake, tmp_path):
    packed = bundles.pack(project, LIMIT)
    with pytest.raises(CodeMissing, match=r"not in Redis any more.* submit again with --bundle"):
        bundles.unpacked(packed.code(project).root, fake.client, tmp_path)


def test_old_ones_go_and_those_in_use_stay(project, fake, tmp_path):
    cache = tmp_path / "cache"
    used = unpack(bundles.pack(project, LIMIT), fake.client, cache)
    for name in ("0" * 32, "1" * 32, f"{'2' * 32}.17"):
        (cache / name).mkdir()
    for name in ("0" * 32, "1" * 32, used.name):
        (cache / f"{name}.lock").touch()
    old = time.time() - bundles.UNUSED_S - 10
    for name in ("0" * 32, used.name):
        os.utime(cache / f"{name}.lock", (old, old))
    (project / "flow.yaml").write_text("another")
    other = unpack(bundles.pack(project, LIMIT), fake.client, cache)
    assert {path.name for path in cache.iterdir() if path.is_dir()} == {
        used.name, other.name, "1" * 32,
    }  # fmt: skip


def test_imports_that_a_node_lacks_are_told_together(project):
    (project / "src/more.py").write_text(
        "import __main__, of_venus.sub\nfrom json import dumps\nimport train\n"
    )
    assert bundles.missing_imports(project / "src") == ["numpy_of_mars", "of_venus"]
