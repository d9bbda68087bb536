"""Handlers of types: names, the decorator, and functions that workers cannot import."""

import pytest

from penstock.common import handlers
from penstock.common.errors import InputError


@pytest.fixture(autouse=True)
def _empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_registry", {})


def fit() -> None: ...


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("model_training", "model-training"),
        ("MODEL-Training", "model-training"),
        (" Fan_Out ", "fan-out"),
        ("fanOut", "fan-out"),
        ("fanin", "fan-in"),
        ("train", "train"),
    ],
)
def test_types_match_in_any_case_with_either_separator(given: str, normal: str) -> None:  # W2
    assert handlers.normalise_type(given) == normal


def test_the_decorator_registers_and_leaves_the_function_as_it_is() -> None:  # W2
    assert handlers.handler("Model_Training")(fit) is fit
    assert handlers.registered() == {"model-training": f"{fit.__module__}:fit"}


def test_register_handler_takes_a_name_and_the_latest_holds() -> None:  # W2
    handlers.register_handler("train", "a:b")
    handlers.register_handler("TRAIN", "c:d")
    assert handlers.registered() == {"train": "c:d"}


def test_all_machine_learning_types_are_listed() -> None:  # W2
    assert len(handlers.BUILTIN_TYPES) == 12
    assert all(name == handlers.normalise_type(name) for name in handlers.BUILTIN_TYPES)


@pytest.mark.parametrize("name", ["fan-out", "FAN_IN", "approval", "study", "subworkflow", ""])
def test_control_types_have_no_handler(name: str) -> None:
    with pytest.raises(InputError):
        handlers.register_handler(name, fit)


def test_functions_that_workers_cannot_import_are_refused() -> None:
    def inner() -> None: ...

    with pytest.raises(InputError, match="inside another function"):
        handlers.register_handler("x", inner)
    with pytest.raises(InputError, match="lambda"):
        handlers.register_handler("x", lambda: None)
    script = type("f", (), {"__module__": "__main__", "__qualname__": "f"})
    with pytest.raises(InputError, match="script"):
        handlers.register_handler("x", script)
    with pytest.raises(InputError, match="no name"):
        handlers.function_name(object())  # type: ignore[arg-type]
