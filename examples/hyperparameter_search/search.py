"""The job of workflow.yaml: a plain function, which runs as well without Penstock."""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def train(lr: float, batch_size: int, optimizer: str, images: int, epochs: int) -> dict[str, Any]:
    """Trains a small network on three quarters of `images` digits, and measures it on the others."""
    pixels, labels = load_digits(return_X_y=True)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        pixels[:images] / 16, labels[:images], test_size=0.25, random_state=0
    )
    network = MLPClassifier(
        hidden_layer_sizes=(32,),
        solver=optimizer,
        learning_rate_init=lr,
        batch_size=batch_size,
        max_iter=epochs,
        random_state=0,
    )
    with warnings.catch_warnings():
        # So few epochs are meant to end before the training has converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(seen, seen_labels)
    accuracy = round(float(network.score(unseen, unseen_labels)), 4)
    print(f"lr={lr} bs={batch_size} opt={optimizer}: accuracy {accuracy}")
    return {"lr": lr, "bs": batch_size, "opt": optimizer, "accuracy": accuracy}
