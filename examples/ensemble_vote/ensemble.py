"""The job of workflow.yaml: four kinds of classifiers, each asked about the same few wines."""

from __future__ import annotations

from typing import Any

from sklearn.datasets import load_wine
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def classifier(model: str) -> Any:
    """An untrained classifier by its name in the workflow."""
    if model == "random_forest":
        return RandomForestClassifier(n_estimators=50, random_state=0)
    if model == "gradient_boosting":
        return GradientBoostingClassifier(n_estimators=30, random_state=0)
    if model == "neural_net":
        network = MLPClassifier(hidden_layer_sizes=(16,), max_iter=1000, random_state=0)
        return make_pipeline(StandardScaler(), network)
    if model == "svm":
        return SVC()  # on measurements as they are, which it bears badly
    raise ValueError(f"no model {model!r}")


def classify(model: str, held_out: int) -> list[int]:
    """The cultivars that one classifier sees in `held_out` wines, trained on all others.

    Nothing but the labels, so that classifiers that agree return the same.
    """
    measured, cultivars = load_wine(return_X_y=True)
    seen, unseen, known, truth = train_test_split(
        measured, cultivars, test_size=held_out, stratify=cultivars, random_state=0
    )
    labels: list[int] = classifier(model).fit(seen, known).predict(unseen).tolist()
    print(f"{model}: {labels}, {sum(labels == truth)} of {held_out} right")
    return labels
