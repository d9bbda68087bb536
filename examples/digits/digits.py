"""The jobs of workflow.yaml: plain functions, which run as well without Penstock."""

from __future__ import annotations

import time
from typing import Any

from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.svm import SVC

COLUMNS = ("C", "gamma", "kernel", "accuracy", "cv_accuracy", "fit_s")


def load(held_out: float = 0.25) -> dict[str, Any]:
    """Splits the 1,797 images, each digit alike: `{images, train, held_out}`, indexes in the set.

    The images come with scikit-learn, so indexes are all that the other jobs need.
    """
    labels = load_digits().target
    train, test = train_test_split(
        range(len(labels)), test_size=held_out, stratify=labels, random_state=0
    )
    return {"images": len(labels), "train": sorted(train), "held_out": sorted(test)}


def train(split: dict[str, Any], C: float, gamma: float, kernel: str, folds: int) -> dict[str, Any]:
    """Trains one support vector classifier and measures it.

    `accuracy` is that on the held-out images, `cv_accuracy` the mean of the
    cross-validation on the others, `fit_s` the seconds that both took.
    """
    images, labels = load_digits(return_X_y=True)
    seen, unseen = split["train"], split["held_out"]
    started = time.perf_counter()
    model = SVC(C=C, gamma=gamma, kernel=kernel)
    cross_validated = cross_val_score(model, images[seen], labels[seen], cv=folds).mean()
    model.fit(images[seen], labels[seen])
    return {
        "C": C,
        "gamma": gamma,
        "kernel": kernel,
        "accuracy": round(float(model.score(images[unseen], labels[unseen])), 4),
        "cv_accuracy": round(float(cross_validated), 4),
        "fit_s": round(time.perf_counter() - started, 3),
    }


def report(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Prints all results as a table, the most accurate first; `{configurations, rows}`.

    Those that are equal stay in their order, as best-metric takes the first.
    """
    ordered = sorted(results, key=lambda result: -result["accuracy"])
    cells = [COLUMNS, *(tuple(str(result[column]) for column in COLUMNS) for result in ordered)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(COLUMNS))]
    rows = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]
    print("\n".join(rows))
    return {"configurations": len(results), "rows": rows}
