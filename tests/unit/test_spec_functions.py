"""Importing a workflow's functions in a child process, whatever they do when imported."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock.common import handlers
from penstock.common.errors import SpecError
from penstock.common.spec import importer
from penstock.common.spec.functions import check_functions, resolve_functions, resolver
from penstock.common.spec.loading import load_workflow, parse_workflow

MODULES = {
    "digits": "DATA = [1]\nclass Model:\n    def fit(self): ...\ndef load(): ...\n",
    "noisy": "import os, sys\nprint('x' * 200_000)\nos.write(1, b'{\"done\": true}\\n')\ndef f(): ...\n",
    "reader": "import sys\nsys.stdin.read()\ndef f(): ...\n",
    "threads": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(100,)).start()\ndef f(): ...\n",
    "leaves": "import subprocess\nleft = subprocess.Popen(['sleep', '30'])\n"
    "open('left.pid', 'w').write(str(left.pid))\ndef f(): ...\n",
    "broken": "import there_is_none\n",
    "syntax": "def (:\n",
    "exits": "raise SystemExit(3)\n",
    "kills": "import os\nos._exit(9)\n",
    "hangs": "import time\ntime.sleep(100)\n",
    "dynamic": "def __getattr__(name):\n    raise RuntimeError('no ' + name)\n",
    "common": "MINE = True\ndef f(): ...\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_all_functions_are_checked_in_one_child(root: Path) -> None:  # W3
    cases = {
        "digits:load": None,
        "digits:Model.fit": None,
        "json:dumps": None,
        "noisy:f": None,
        "reader:f": None,
        "threads:f": None,
        "leaves:f": None,
        "common:f": None,
        "digits:lod": "'digits' has no function 'lod'; did you mean 'load'?",
        "digits:Model.fitt": "has no function 'fitt'; did you mean 'fit'?",
        "digits:DATA": "'digits:DATA' is a list, not a function",
        "digit:load": f"no module 'digit' in {root} or installed; did you mean 'digits'?",
        "digits.sub:load": f"no module 'digits.sub' in {root} or installed",
        "broken:f": "cannot import 'broken': ModuleNotFoundError: No module named 'there_is_none'",
        "syntax:f": f"cannot import 'syntax': SyntaxError: invalid syntax ({root}/syntax.py:1)",
        "exits:f": "cannot import 'exits': SystemExit: 3",
        "dynamic:f": "'dynamic:f' cannot be read: RuntimeError: no f",
    }
    started = time.perf_counter()
    found = {fault.place: fault.message for fault in check_functions({k: k for k in cases}, root)}
    assert time.perf_counter() - started < 10
    assert found.keys() == {name for name, message in cases.items() if message}
    for name, message in found.items():
        assert (cases[name] or "") in message


def test_processes_that_an_import_started_are_gone_with_it(root: Path) -> None:
    assert check_functions({"a": "leaves:f"}, root) == []
    process = psutil.Process(int((root / "left.pid").read_text()))
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.wait_procs([process], timeout=5)
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_nothing_is_imported_here(root: Path) -> None:
    check_functions({"a": "digits:load"}, root)
    assert "digits" not in sys.modules


def test_a_module_that_kills_the_process_is_named(root: Path) -> None:  # W3
    found = check_functions({"a": "digits:load", "b": "kills:f", "c": "broken:f"}, root)
    assert [fault.place for fault in found] == ["b"]
    assert "importing 'kills' ended the process (exit code 9)" in found[0].message


def test_a_module_that_hangs_is_cut_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "IMPORT_LIMIT_S", 0.5)
    started = time.perf_counter()
    (fault,) = check_functions({"a": "hangs:f"}, root)
    assert "importing 'hangs' took longer than 0.5 s" in fault.message
    assert time.perf_counter() - started < 5


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    (fault,) = check_functions({"a": "m:f"}, tmp_path / "none")
    assert "cannot be used" in fault.message


def test_no_process_is_started_for_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer.subprocess, "Popen", None)
    assert check_functions({}, root) == []
    workflow = parse_workflow({"jobs": {"a": {"command": "true"}}})
    assert resolve_functions(workflow, root) is workflow
    named = parse_workflow({"jobs": {"a": {"run": "none:f"}}})
    assert resolve_functions(named, root, check=False) is named
    assert resolver(root, known={"none:f": None})(named) == (named, [])


def test_the_child_that_was_started_first_is_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    popen = importer.subprocess.Popen

    def noted(*what: Any, **how: Any) -> Any:
        started.append(popen(*what, **how))
        return started[-1]

    monkeypatch.setattr(importer.subprocess, "Popen", noted)
    importer.start(root / "none")
    importer.start(root)
    assert check_functions({"a": "digits:load"}, root) == []
    assert len(started) == 1
    importer.start(root)
    (fault,) = check_functions({"a": "m:f"}, root / "none")
    assert "cannot be used" in fault.message
    importer._end_those_left()
    assert [child.returncode is not None for child in started] == [True, True]


def test_of_a_module_all_functions_become_known(root: Path) -> None:
    text = "from json import dumps\ndef f(a): ...\ndef g(b, *, c=1): ...\nclass C: ...\nh = g\n"
    (root / "several.py").write_text(text)
    known: importer.Known = {}
    workflow = parse_workflow({"jobs": {"a": {"run": "several:f", "config": {"a": 1}}}})
    assert resolver(root, known=known)(workflow)[1] == []
    assert known.keys() == {"several:f", "several:g", "several:h"}
    wrong = parse_workflow({"jobs": {"a": {"run": "several:g", "config": {"d": 1}}}})
    assert len(resolver(root, known=known)(wrong)[1]) > 0


HANDLERS = """from penstock.common.handlers import handler, register_handler
@handler("Model_Training")
def fit(**config): ...
register_handler("evaluate", "digits:load")
register_handler("process", "digits:lod")
"""


def test_types_are_bound_to_the_handlers_beside_the_file(root: Path) -> None:  # W2
    (root / "penstock_handlers.py").write_text(HANDLERS)
    workflow = parse_workflow(
        {
            "jobs": {
                "a": {"type": "MODEL_TRAINING"},
                "b": {"type": "fan-out", "template": {"type": "model-training"}},
                "c": {"type": "model-training", "run": "digits:load"},
                "d": {"type": "evaluate"},
            }
        }
    )
    for check in (True, False):
        bound = resolve_functions(workflow, root, check=check)
        assert [bound.jobs[name].run for name in "acd"] == [
            "penstock_handlers:fit",
            "digits:load",
            "digits:load",
        ]
        assert bound.jobs["b"].template is not None
        assert bound.jobs["b"].template.run == "penstock_handlers:fit"
    assert workflow.jobs["a"].run is None


def test_handlers_of_the_process_and_of_packages_count_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # W2
    monkeypatch.setattr(handlers, "_registry", {"train": "digits:load"})
    package = root / "plugin-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[penstock.handlers]\nBatch_Inference = digits:load\ntrain = never:used\n"
    )
    workflow = parse_workflow({"jobs": {"a": {"type": "train"}, "b": {"type": "batch_inference"}}})
    bound = resolve_functions(workflow, root)
    assert [job.run for job in bound.jobs.values()] == ["digits:load", "digits:load"]


def test_a_type_without_a_handler_is_named(root: Path) -> None:  # W2 W3
    (root / "penstock_handlers.py").write_text(HANDLERS)
    jobs = {
        "a": {"type": "model_trainin"},
        "b": {"type": "batch_inference"},
        "c": {"type": "process"},
    }
    with pytest.raises(SpecError) as raised:
        resolve_functions(parse_workflow({"jobs": jobs}, source=""), root)
    first, second, third = str(raised.value).splitlines()
    assert first.startswith(
        "jobs.a.type: no handler for the type 'model-trainin'; did you mean 'mod"
    )
    assert second.startswith("jobs.b.type: no handler for the type 'batch-inference'; give the job")
    assert third == "jobs.c.type: its handler: 'digits' has no function 'lod'; did you mean 'load'?"


def test_broken_handlers_are_one_fault(root: Path) -> None:
    (root / "penstock_handlers.py").write_text("import there_is_none\n")
    workflow = parse_workflow({"jobs": {"a": {"type": "x"}, "b": {"type": "y"}}}, source="")
    with pytest.raises(SpecError) as raised:
        resolve_functions(workflow, root)
    assert str(raised.value).startswith("penstock_handlers.py: cannot import 'penstock_handlers'")
    assert len(raised.value.faults) == 1


def test_unknown_functions_are_reported_with_all_other_faults(root: Path) -> None:  # W3
    path = root / "flow.yaml"
    path.write_text(
        "jobs:\n"
        "  a: {run: 'digits:lod', priority: 11}\n"
        "  f: {type: fan-out, template: {run: 'digit:load'}}\n"
        "  g:\n"
        "    type: fan-in\n"
        "    fan_out_job_id: f\n"
        "    aggregation:\n"
        "      strategy: custom\n"
        "      custom_aggregator: digits:merge\n"
        "  h: {run: nonsense}\n"
    )
    with pytest.raises(SpecError) as raised:
        load_workflow(path, resolver=resolver(root))
    assert [fault.place.replace(str(path), "flow") for fault in raised.value.faults] == [
        "flow:2: jobs.a.priority",
        "flow:2: jobs.a.run",
        "flow:3: jobs.f.template.run",
        "flow:9: jobs.g.aggregation.custom_aggregator",
        "flow:10: jobs.h.run",
    ]


def test_what_a_custom_aggregator_is_given_is_compared_with_what_it_takes(
    root: Path,
) -> None:  # W3 F6
    (root / "merges.py").write_text(
        "def one(outputs): pass\ndef more(outputs, scale, label=''): pass\ndef any_(*outputs, **rest): pass\n"
        "def star(*outputs, scale): pass\ndef place(outputs=None, /, scale=1): pass\n"
        "def none(): pass\ndef all_(outputs, **rest): pass\n"
    )
    jobs: dict[str, Any] = {"f": {"type": "fan-out", "over": [1], "template": {"command": "true"}}}
    given: list[tuple[str, dict[str, Any]]] = [
        ("one", {"outputs": 1}),
        ("more", {"lable": ""}),
        ("any_", {"x": 1}),
        ("star", {"scale": 1}),
        ("place", {"scale": 1}),
        ("none", {}),
        ("all_", {"outputs": 1}),
    ]
    for name, config in given:
        how = {"strategy": "custom", "custom_aggregator": f"merges:{name}"}
        jobs[name] = {"type": "fan-in", "fan_out_job_id": "f", "aggregation": how, "config": config}
    with pytest.raises(SpecError) as raised:
        parse_workflow({"jobs": jobs}, resolver=resolver(root))
    found = [str(fault).removeprefix("<workflow>: ") for fault in raised.value.faults]
    assert found == [
        "jobs.one.config.outputs: one() has no argument 'outputs'; it takes none",
        "jobs.more.config.lable: more() has no argument 'lable'; did you mean 'label'?",
        "jobs.more.config: more() needs the argument 'scale'",
        "jobs.none.aggregation.custom_aggregator: none() takes no list of outputs, which it is given first",
        "jobs.all_.config.outputs: is the list of outputs, which all_() is given",
    ]


def test_places_survive_until_functions_are_checked_later(root: Path) -> None:  # W3
    path = root / "flow.yaml"
    path.write_text("jobs:\n  a:\n    run: 'digits:lod'\n")
    workflow = load_workflow(path)
    with pytest.raises(SpecError, match=r"flow.yaml:3: jobs.a.run: 'digits' has no function"):
        resolve_functions(workflow, root)


ARGUMENTS = """import functools
def work(chunk, scale=1.0, *, seed): ...
def anything(chunk, **rest): ...
def nothing(): ...
def supplies(function):
    @functools.wraps(function)
    def wrapped(**config): return function(database=1, **config)
    return wrapped
@supplies
def stores(database, row): ...
"""


@pytest.mark.parametrize(
    ("run", "config", "faults"),
    [
        ("work", {"chunk": 1, "seed": 2}, []),
        (
            "work",
            {"chnk": 1},
            [
                ("config.chnk", "work() has no argument 'chnk'; did you mean 'chunk'?"),
                ("config", "work() needs the argument 'seed'"),
            ],
        ),
        ("anything", {"chnk": 1}, [("config", "anything() needs the argument 'chunk'")]),
        ("anything", {"other": 1}, [("config", "anything() needs the argument 'chunk'")]),
        ("nothing", {"x": 1}, [("config.x", "nothing() has no argument 'x'; it takes none")]),
        ("stores", {"row": 1}, []),
    ],
)
def test_a_function_is_given_what_it_takes(root: Path, run, config, faults) -> None:  # W3
    (root / "takes.py").write_text(ARGUMENTS)
    jobs = {
        "a": {"run": f"takes:{run}", "config": config},
        "f": {"type": "fan-out", "template": {"run": f"takes:{run}", "config": config}},
    }
    problems = resolver(root)(parse_workflow({"jobs": jobs}))[1]
    places = [("jobs", "a"), ("jobs", "f", "template")]
    assert problems == [
        ((*place, *where.split(".", 1)), text) for place in places for where, text in faults
    ]


def test_an_argument_may_have_its_name_from_an_axis(root: Path) -> None:  # W3
    (root / "takes.py").write_text(ARGUMENTS)
    fan = {"template": {"run": "takes:work", "config": {"${key}": 1}}}
    fan |= {"type": "fan-out", "parameters": [{"name": "key", "values": ["chunk", "seed"]}]}
    assert resolver(root)(parse_workflow({"jobs": {"f": fan}}))[1] == []


def test_what_is_known_of_a_function_is_used_again(root: Path, monkeypatch) -> None:  # W3
    (root / "takes.py").write_text(ARGUMENTS)
    known: importer.Known = {}
    fine = parse_workflow({"jobs": {"a": {"run": "takes:anything", "config": {"chunk": 1}}}})
    assert resolver(root, known=known)(fine)[1] == []
    monkeypatch.setattr(importer.subprocess, "Popen", None)
    lacks = parse_workflow({"jobs": {"a": {"run": "takes:anything"}}})
    ((_, text),) = resolver(root, known=known)(lacks)[1]
    assert text == "anything() needs the argument 'chunk'"


def test_a_configuration_that_cannot_be_read_lacks_nothing(root: Path) -> None:  # W3
    (root / "takes.py").write_text(ARGUMENTS)
    jobs = {"a": {"run": "takes:work", "config": 7}, "b": {"run": "takes:none", "config": 7}}
    with pytest.raises(SpecError) as raised:
        parse_workflow({"jobs": jobs}, resolver=resolver(root))
    assert [fault.place.partition(": ")[2] for fault in raised.value.faults] == [
        "jobs.a.config",
        "jobs.b.config",
        "jobs.b.run",
    ]
