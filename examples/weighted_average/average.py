"""The jobs of workflow.yaml: four models foretell how a disease goes on, the sure ones count more."""

from __future__ import annotations

from typing import Any

import numpy
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeRegressor

MODELS = {
    "ridge": Ridge(alpha=0.1),
    "neighbours": KNeighborsRegressor(n_neighbors=10),
    "tree": DecisionTreeRegressor(max_depth=8, random_state=0),
    "forest": RandomForestRegressor(n_estimators=50, random_state=0),
}


def split(patients: int) -> Any:
    """Measurements of those to learn from and of `patients` others, then what became of both."""
    measured, progress = load_diabetes(return_X_y=True)
    return train_test_split(measured, progress, test_size=patients, random_state=0)


def predict(model: str, patients: int) -> dict[str, Any]:
    """`{model, confidence, predictions}`; the confidence is the cross-validated R2, at least 0."""
    seen, unseen, known, _ = split(patients)
    confidence = max(0.0, float(cross_val_score(MODELS[model], seen, known, cv=5).mean()))
    predictions = MODELS[model].fit(seen, known).predict(unseen).round(1).tolist()
    return {"model": model, "confidence": round(confidence, 4), "predictions": predictions}


def weigh(outputs: list[dict[str, Any]]) -> list[float]:
    """For each patient the sum of confidence x prediction by the sum of the confidences."""
    total = sum(output["confidence"] for output in outputs)
    weights = [output["confidence"] / total for output in outputs]
    patients = zip(*(output["predictions"] for output in outputs), strict=True)
    return [round(float(numpy.dot(weights, patient)), 2) for patient in patients]


def judge(members: list[dict[str, Any]], weighted: list[float]) -> dict[str, float]:
    """How far each prediction is from what became of the patients, on average."""
    truth = split(len(weighted))[3]
    predictions = {member["model"]: member["predictions"] for member in members}
    plain = numpy.mean(list(predictions.values()), axis=0)
    predictions |= {"plain average": plain, "weighted average": weighted}
    return {
        name: round(float(numpy.abs(values - truth).mean()), 2)
        for name, values in predictions.items()
    }
