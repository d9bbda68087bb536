"""The jobs of workflow.yaml, from the data to a report, as plain functions."""

from __future__ import annotations

from typing import Any

import numpy
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.preprocessing import StandardScaler


def load(held_out: float) -> dict[str, list[int]]:
    """Splits the 569 tumours, each kind alike, into rows to learn from and rows to be judged on."""
    kinds = load_breast_cancer().target
    train, test = train_test_split(
        range(len(kinds)), test_size=held_out, stratify=kinds, random_state=0
    )
    return {"train": sorted(train), "held_out": sorted(test)}


def preprocess(rows: list[int]) -> dict[str, list[float]]:
    """What brings each of the 30 measurements to mean 0 and deviation 1, learned from `rows`."""
    scaler = StandardScaler().fit(load_breast_cancer().data[rows])
    return {"mean": scaler.mean_.tolist(), "scale": scaler.scale_.tolist()}


def scaled(rows: list[int], scaling: dict[str, list[float]]) -> tuple[Any, Any]:
    """Measurements and kinds (0 malignant, 1 benign) of some rows."""
    measured, kinds = load_breast_cancer(return_X_y=True)
    return (measured[rows] - scaling["mean"]) / scaling["scale"], kinds[rows]


def tune(
    label: str,
    rows: list[int],
    scaling: dict[str, list[float]],
    settings: dict[str, Any],
    folds: int,
) -> dict[str, Any]:
    """Cross-validates one setting: `{label, settings, log_loss}`."""
    model = LogisticRegression(max_iter=1000, **settings)
    losses = -cross_val_score(model, *scaled(rows, scaling), cv=folds, scoring="neg_log_loss")
    print(f"{label}: loss {losses.mean():.4f}")
    return {"label": label, "settings": settings, "log_loss": round(float(losses.mean()), 6)}


def train(
    rows: list[int], scaling: dict[str, list[float]], settings: dict[str, Any]
) -> dict[str, Any]:
    """Fits a model to all rows. It is 31 numbers, small enough to be a result as it is."""
    model = LogisticRegression(max_iter=1000, **settings).fit(*scaled(rows, scaling))
    return {"weights": model.coef_[0].tolist(), "bias": float(model.intercept_[0])}


def evaluate(
    model: dict[str, Any], scaling: dict[str, list[float]], rows: list[int]
) -> dict[str, Any]:
    """The share of rows that the model gets right, and which errors it makes."""
    measured, kinds = scaled(rows, scaling)
    said = measured @ numpy.array(model["weights"]) + model["bias"] > 0
    (_, missed), (alarms, _) = confusion_matrix(kinds, said).tolist()
    accuracy = round(float((said == kinds).mean()), 4)
    return {"rows": len(rows), "accuracy": accuracy, "missed": missed, "false_alarms": alarms}


def report(title: str, lines: list[str], best: dict[str, Any]) -> dict[str, Any]:
    """Prints the text, and returns it with the settings that were best."""
    text = [title, *lines]
    print("\n".join(text))
    return {"text": text, "settings": best["settings"]}
