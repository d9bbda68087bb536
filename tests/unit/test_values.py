"""Values that JSON does not hold travel as files; the JSON names them."""  # W5

from __future__ import annotations

import hashlib
import json
import math
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from penstock.common import pickles, values
from penstock.common.artifacts import Artifacts, artifacts
from penstock.common.datafolder import DataFolder
from penstock.common.errors import InputError, NotFound, NotTrusted
from penstock.common.outcomes import ChildOutcome, canonical_json, metric_of, metrics_of
from penstock.common.settings import Settings
from penstock.common.spec.expansion import Expansion
from penstock.common.spec.models import Job
from penstock.worker.results import numbers_beside

EXECUTION = "abcdefghijklmn1"


@pytest.fixture(params=["folder", "url"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    folder = tmp_path / "values"
    return Artifacts(str(folder) if request.param == "folder" else f"file://{folder}")


def there_and_back(value: Any, store: Artifacts) -> Any:
    made = values.keep(value, store, EXECUTION, "job")
    text = json.dumps({"a": [made, 1], "b": "text"}).encode()
    found = values.loads(text, lambda: store)
    assert (found["a"][1], found["b"]) == (1, "text")
    return found["a"][0]


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(2, 3),
        np.array([], dtype="complex64"),
        np.array(["a", "bc"]),
        np.asfortranarray(np.eye(3)),
        np.datetime64("2026-01-01") + np.arange(3),
    ],
)
def test_arrays_come_back_as_they_were(store, value):
    found = there_and_back(value, store)
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    assert np.array_equal(found, value)


def test_bytes_and_frames_come_back_as_they_were(store):
    assert there_and_back(b"\0\xff", store) == b"\0\xff"
    assert there_and_back(bytearray(b"x"), store) == b"x"
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["p", "q"])
    pandas.testing.assert_frame_equal(there_and_back(frame, store), frame)


def test_a_large_text_keeps_its_metrics_in_sight(store):
    text = {"x": 0.5, "metrics": {"y": 1}, "long": "..."}
    made = values.keep_json(
        json.dumps(text).encode(), numbers_beside(text), store, EXECUTION, "job"
    )
    child = ChildOutcome(0, output=made)
    assert (metric_of(child, "x"), metric_of(child, "y")) == (0.5, 1)
    assert metrics_of(made) == metrics_of(text) == {"y": 1}
    assert values.loaded(made, lambda: store) == text
    beside = numbers_beside(
        {"nan": math.nan, "big": 2**60 + 1, "np": np.float32(0.5), "no": True, "t": "x"}
    )
    assert (math.isnan(beside.pop("nan")), beside) == (True, {"big": 2**60 + 1, "np": 0.5})


@dataclass
class Model:
    weights: list[float]


@dataclass
class Larger(Model):
    more: int = 0


def test_a_type_of_the_users_has_a_codec_by_name(store, monkeypatch):
    monkeypatch.setattr(values, "_codecs", dict(values._codecs))
    with pytest.raises(TypeError, match="Model is not JSON"):
        values.keep(Model([1.0]), store, EXECUTION, "job")
    values.register_codec(
        "model", Model, lambda model, file: file.write(json.dumps(model.weights).encode()),
        lambda file: Model(json.load(file)),
    )  # fmt: skip
    assert there_and_back(Model([1.0]), store) == Model([1.0])
    assert there_and_back(Larger([2.0], 3), store) == Model([2.0])
    made = values.keep(Model([1.0]), store, EXECUTION, "job")
    del values._codecs["model"]
    with pytest.raises(values.ValueFailed, match="codec 'model', which is not registered here"):
        values.loaded(made, lambda: store)
    with pytest.raises(InputError, match="needs a type, and two functions"):
        values.register_codec("x", "Model", print, print)  # type: ignore[arg-type]
    for name in ("numpy", "no name", ""):
        with pytest.raises(InputError, match=r"is one of Penstock's own|is no name"):
            values.register_codec(name, Model, print, print)


def test_what_a_codec_cannot_write_leaves_no_file(store, tmp_path):
    with pytest.raises(
        values.ValueFailed, match=r"ndarray could not be written .*numpy: Object arrays"
    ):
        values.keep(np.array([{}], dtype=object), store, EXECUTION, "job")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class Away:
    """A store whose client has errors of its own kind."""

    where, shared = "away", True
    key = staticmethod(Artifacts.key)

    @contextmanager
    def new(self, key: str) -> Iterator[Any]:
        yield self

    def write(self, data: Any) -> None:
        raise RuntimeError("endpoint not reachable")


def test_an_error_of_the_store_is_not_the_codecs() -> None:
    with pytest.raises(
        values.ValueFailed, match="could not be written to away: endpoint"
    ) as caught:
        values.keep(np.arange(3), Away(), EXECUTION, "job")  # type: ignore[arg-type]
    assert not isinstance(caught.value, values.Unwritable)


def test_a_pickle_in_disguise_is_not_run(store, tmp_path):
    made = values.keep(np.arange(3), store, EXECUTION, "job")
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    bad = np.array([{}], dtype=object)
    np.save(path.with_suffix(".npy"), bad, allow_pickle=True)
    data = path.with_suffix(".npy").read_bytes()
    path.write_bytes(data)
    made[values.MARK]["bytes"] = len(data)
    with pytest.raises(values.ValueFailed, match=r"could not be read from .* by the codec numpy"):
        values.loaded(made, lambda: store)


def test_one_that_was_cut_short_or_is_gone_is_told(store, tmp_path):
    made = values.keep(b"12345", store, EXECUTION, "job")
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(b"1")
    with pytest.raises(values.ValueFailed, match="has 1 bytes, and was written with 5"):
        values.loaded(made, lambda: store)
    store.forget(EXECUTION)
    store.forget(EXECUTION)
    with pytest.raises(
        NotFound, match="it went with its execution, or this machine does not share"
    ):
        values.loaded(made, lambda: store)


def marker(key: str) -> dict[str, Any]:
    return {values.MARK: {"codec": "bytes", "key": key, "bytes": 1, "sha256": "0"}}


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        f"{EXECUTION}/..",
        f"{EXECUTION}/.",
        "/etc/passwd",
        f"{EXECUTION}/../x/y",
        "x",
    ],
)
def test_a_key_leads_nowhere_else(store, key):
    with pytest.raises(InputError, match="is no key of a value"):
        values.loaded(marker(key), lambda: store)


@pytest.fixture
def pickling(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets PENSTOCK_PICKLE_KEY, as if this were another process."""

    def with_key(key: str) -> None:
        monkeypatch.setenv("PENSTOCK_PICKLE_KEY", key)
        pickles._key.cache_clear()

    with_key("the key of a cluster")
    yield with_key
    pickles._key.cache_clear()


def test_any_type_travels_where_pickles_are_switched_on(store, pickling):
    assert there_and_back({1, 2}, store) == {1, 2}
    assert there_and_back(lambda x: x + 1, store)(1) == 2
    array = np.arange(3)  # what has a codec needs none
    assert values.keep(array, store, EXECUTION, "job")[values.MARK]["codec"] == "numpy"
    with pytest.raises(values.ValueFailed, match=r"lock could not be written .* cloudpickle"):
        values.keep(threading.Lock(), store, EXECUTION, "job")


def test_a_pickle_is_not_read_without_the_key_that_signed_it(store, pickling):
    made = values.keep({1, 2}, store, EXECUTION, "job")
    for key, why in (("", "set PENSTOCK_PICKLE_KEY"), ("another one, as long", "not signed with")):
        pickling(key)
        with pytest.raises(NotTrusted, match=why):
            values.loaded(made, lambda: store)


class Trap:
    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize("what", ["content", "digest", "place", "unsigned"])
def test_a_pickle_that_was_put_in_its_place_is_not_run(store, pickling, tmp_path, what):
    """By somebody who may write to the store and to Redis."""
    made, other = (values.keep({one}, store, EXECUTION, "job") for one in (1, 2))
    about = made[values.MARK]
    (path,) = tmp_path.rglob(about["key"].rpartition("/")[2])
    trap = pickle.dumps(Trap())
    if what == "place":  # one that is signed, for another value
        about["key"] = other[values.MARK]["key"]
        about["sha256"] = other[values.MARK]["sha256"]
    elif what == "unsigned":
        del about["signature"]
    else:
        path.write_bytes(trap)
        about["bytes"] = len(trap)
    if what == "digest":
        about["sha256"] = hashlib.sha256(trap).hexdigest()
    with pytest.raises(NotTrusted, match="it was not read"):
        values.loaded(made, lambda: store)


def test_json_in_files_is_shown_where_it_can_be_read(store):
    inner = values.keep(np.arange(2), store, EXECUTION, "job")
    made = values.keep_json(json.dumps([1, inner]).encode(), {}, store, EXECUTION, "job")
    gone = marker(f"{EXECUTION}/gone") | {"metrics": {"x": 1.0}}
    gone[values.MARK]["codec"] = "json"
    shown = values.with_json({"a": [made], "b": gone}, lambda: store)
    assert shown == {"a": [[1, inner]], "b": gone}


def test_what_others_see_for_sure(tmp_path):
    def shared(**given: Any) -> bool:
        found = artifacts(Settings.load(home=tmp_path, **given))
        assert found is not None
        return found.shared

    assert shared()
    assert not shared(redis_url="unix:///x")  # another server's: its users may have other folders
    DataFolder(tmp_path).write(
        "server", {"pid": 1, "keeper_pid": 1, "url": "unix:///y", "socket": "/y"}
    )
    assert shared(redis_url="unix:///y")
    assert not shared(redis_url="redis://localhost:1/0")
    assert shared(redis_url="redis://localhost:1/0", artifacts="/shared")


def test_where_they_are(tmp_path):
    def where(**given: Any) -> str | None:
        found = artifacts(Settings.load(home=tmp_path, **given))
        return found and found.where

    own = str(tmp_path / "artifacts")
    assert (
        where() == where(redis_url="unix:///x") == where(redis_url="redis://localhost:1/0") == own
    )
    assert where(redis_url="redis://other:6379") is None
    assert where(redis_url="redis://other:6379", artifacts="/shared/") == "/shared"
    with pytest.raises(
        InputError, match=r"PENSTOCK_ARTIFACTS=nosuch://x cannot be used: .*pip install"
    ):
        where(artifacts="nosuch://x")


def test_without_a_place_it_is_said_what_to_set():
    with pytest.raises(values.ValueFailed, match="bytes travels as a file: set PENSTOCK_ARTIFACTS"):
        values.keep(b"x", None, EXECUTION, "job")
    with pytest.raises(
        values.ValueFailed, match=r"the result is 2\.0 MiB of JSON, over PENSTOCK_RESULT"
    ):
        values.keep_json(b"x" * 2**21, {}, None, EXECUTION, "job")
    with pytest.raises(values.ValueFailed, match="set PENSTOCK_ARTIFACTS to where it is"):
        values.loaded(marker(f"{EXECUTION}/x"), lambda: None)


def test_a_large_text_may_hold_files_itself(store):
    inner = values.keep(np.arange(2), store, EXECUTION, "job")
    text = json.dumps({"deep": [inner], "long": "x" * 99}).encode()
    made = values.keep_json(text, {}, store, EXECUTION, "job")
    found = values.loads(json.dumps({"a": made}).encode(), lambda: store)
    assert found["a"]["deep"][0].tolist() == [0, 1]


def test_what_only_looks_like_one_is_left_alone(store):
    for data in (
        {values.MARK: 1},
        {values.MARK: {"mine": 1}},
    ):
        assert values.loads(json.dumps(data).encode(), lambda: store) == data


@pytest.mark.parametrize(
    "value",
    [
        np.ma.masked_array([1, 2], [True, False]),
        np.recarray((1,), dtype=[("a", int)]),
        pandas.Series([1]),
    ],
)
def test_a_subclass_that_would_come_back_as_less_has_no_codec(store, value):
    with pytest.raises(TypeError, match="no codec is registered for it"):
        values.keep(value, store, EXECUTION, "job")


def test_a_frame_without_pyarrow_says_what_to_install(store, monkeypatch):
    frame = pandas.DataFrame({"a": [1]})
    kept = values.keep(frame, store, EXECUTION, "job")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for what in (
        lambda: values.keep(frame, store, EXECUTION, "job"),
        lambda: values.loaded(kept, lambda: store),
    ):
        with pytest.raises(values.ValueFailed, match="`pip install pyarrow`"):
            what()


def test_equal_values_are_told_by_their_content(store):
    one, same, other = (
        values.keep(np.array(value), store, EXECUTION, "job") for value in ([1, 2], [1, 2], [9, 9])
    )
    assert canonical_json({"a": one}) == canonical_json({"a": same}) != canonical_json({"a": other})
    again = values.keep_by_content(np.array([1, 2]), store, EXECUTION, "größe")
    assert again == values.keep_by_content(np.array([1, 2]), store, EXECUTION, "größe")
    assert values.loaded(again, lambda: store).tolist() == [1, 2]


def test_threads_do_not_lose_each_others_files(store):
    def there_and_back_again(number: int) -> bool:
        made = [values.keep(np.arange(number), store, EXECUTION, "job") for _ in range(5)]
        return all(len(values.loaded(one, lambda: store)) == number for one in made)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(there_and_back_again, range(1, 25)))


def test_a_place_that_cannot_be_used_is_named(store, monkeypatch):
    made = values.keep(b"x", store, EXECUTION, "job")

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store._files, "reading", refuse)
    with pytest.raises(
        values.ValueFailed, match=r"could not be read from .*values .*Permission denied"
    ):
        values.loaded(made, lambda: store)
    monkeypatch.setattr(store._files, "writing", refuse)
    with pytest.raises(
        values.ValueFailed, match=r"could not be written to .*values: .*Permission denied"
    ):
        values.keep(b"x", store, EXECUTION, "job")


@pytest.mark.parametrize("where", ["art", "./art"])
def test_a_folder_that_depends_on_where_one_is_is_refused(where):
    with pytest.raises(InputError, match="PENSTOCK_ARTIFACTS: must be an absolute folder"):
        Settings.load(artifacts=where)
    assert Settings.load(artifacts="~/art").artifacts == str(Path.home() / "art")


def test_a_fan_out_over_a_file_says_what_to_do():
    template = {"run": "m:f"}
    job = Job.model_validate(
        {"id": "f", "type": "fan-out", "over": "${jobs.a.result}", "template": template}
    )
    with pytest.raises(
        InputError, match="gave a value that is a file \\(bytes\\); it needs a list"
    ):
        Expansion(job, marker(f"{EXECUTION}/x"))  # type: ignore[arg-type]


def test_threads_that_keep_the_same_value_do_not_disturb_each_other(store):
    value = np.arange(200_000)
    with ThreadPoolExecutor(6) as pool:
        made = list(
            pool.map(lambda _: values.keep_by_content(value, store, EXECUTION, "job"), range(12))
        )
    assert all(one == made[0] for one in made)
    assert len(values.loaded(made[0], lambda: store)) == 200_000


def test_a_part_of_a_value_is_written_anew(store, tmp_path):
    made = values.keep_by_content(b"12345", store, EXECUTION, "job")
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(b"12")
    assert values.keep_by_content(b"12345", store, EXECUTION, "job") == made
    assert values.loaded(made, lambda: store) == b"12345"


def test_a_codec_that_does_not_write_to_the_end_is_told(store, monkeypatch):
    monkeypatch.setattr(values, "_codecs", dict(values._codecs))
    values.register_codec("back", Model, lambda model, file: file.seek(0), print)
    with pytest.raises(values.ValueFailed, match="codec back must write from the beginning"):
        values.keep(Model([]), store, EXECUTION, "job")


@pytest.mark.parametrize("value", [memoryview(b"abcd")[::2], memoryview(np.zeros((0, 3)))])
def test_every_view_of_memory_travels(store, value):
    assert there_and_back(value, store) == bytes(value)
