"""The example workflows give what their functions give in plain calls, and print what their pages say."""  # F9

from __future__ import annotations

import csv
import importlib
import re
from collections import Counter
from itertools import accumulate, product
from pathlib import Path

import numpy as np
import pytest
import sklearn
from scipy.stats import chi2_contingency
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(machines, monkeypatch):
    """Runs an example as its user does; the results of its jobs by id, and its module."""

    def run(name, module, *options, slots=2):
        machines.orchestrator()
        machines.worker("n", concurrency=slots)
        done = machines.run("run", str(EXAMPLES / name / "workflow.yaml"), *options)
        assert done.returncode == 0, done.stderr
        assert shape(done.stdout) in shape((EXAMPLES / name / "README.md").read_text())
        jobs = machines.service.execution(machines.service.resolve("last"))["jobs"]
        monkeypatch.syspath_prepend(EXAMPLES / name)
        results = {id_: job["result"] for id_, job in jobs.items()}
        return results, importlib.import_module(module)

    with threadpool_limits(1):  # a thread a core in each process would hold up all of them
        yield run


def shape(text):
    """A printed text but for its numbers, of which some differ in the last digit by machine."""
    return re.sub(r"\s+", " ", re.sub(r"-?\d+(\.\d+)?", "0", text))


def children(results, source):
    """The outputs of a fan-out's jobs, in the order of their index."""
    return [results[id_] for id_ in results[source]["generated_job_ids"]]


def test_hyperparameter_search(example):  # F1 F2 F3 F6 F9
    results, search = example("hyperparameter_search", "search")
    cases = list(product([0.001, 0.01, 0.1], [16, 32, 64], ["adam", "sgd"]))
    plain = [search.train(*case, images=1000, epochs=8) for case in cases]
    assert results["hyperparam_search"]["generated_job_ids"] == [
        f"hyperparam_search_{n}_lr_{str(lr).replace('.', '_')}_bs_{bs}_opt_{opt}"
        for n, (lr, bs, opt) in enumerate(cases)
    ]
    assert children(results, "hyperparam_search") == plain
    best = results["select_best"]
    assert (best["strategy"], best["input_count"]) == ("best-metric", 18)
    assert best["aggregated_result"] == max(plain, key=lambda result: result["accuracy"])
    assert best["aggregated_result"]["accuracy"] > 0.9


def test_ab_test(example):  # F6 F9
    results, variants = example("ab_test", "variants")
    compared = results["compare_variants"]["aggregated_result"]
    assert compared == children(results, "ab_test")
    shown = Counter(variants.sees(user, 1) for user in range(1000))
    assert {result["variant"]: result["users"] for result in compared} == shown
    assert [result["variant"] for result in compared] == ["control", "variant-a", "variant-b"]
    control, _, b = ([one["bought"], one["users"] - one["bought"]] for one in compared)
    squared, p, *_ = chi2_contingency([control, b], correction=False)
    assert results["winner"]["winner"] == "variant-b"
    assert results["winner"]["z"] == pytest.approx(squared**0.5, abs=1e-4)
    assert results["winner"]["p"] == pytest.approx(p, abs=1e-6)


def test_data_sharding(machines, example):  # F4 F6 F9
    results, shards = example("data_sharding", "shards", slots=6)
    merged = results["merge_results"]["aggregated_result"]
    with (Path(sklearn.__file__).parent / "datasets/data/breast_cancer.csv").open() as file:
        radii = [float(row[0]) for row in list(csv.reader(file))[1:]]
    assert merged == {str(int(radius)): row for row, radius in enumerate(radii)}
    assert merged == shards.process(0, 1)
    parts = children(results, "process_shards")
    assert len(parts) == 8
    assert shards.merge(parts[::-1]) != merged  # their order is what decides
    steps = [
        {"job_started": 1, "job_finished": -1}.get(row["event"], 0)
        for row in machines.events()
        if row.get("job", "").startswith("process_shards_")
    ]
    assert (steps.count(1), max(accumulate(steps)) <= 4) == (8, True)


def test_ensemble_vote(example):  # F6 F9
    results, ensemble = example("ensemble_vote", "ensemble")
    models = ("random_forest", "gradient_boosting", "neural_net", "svm")
    plain = [ensemble.classify(model, 12) for model in models]
    assert children(results, "train_ensemble") == plain
    ((winner, votes),) = Counter(map(tuple, plain)).most_common(1)
    assert 1 < votes < 4
    voted = results["ensemble_vote"]["aggregated_result"]
    assert voted == list(winner)
    truth = train_test_split(
        load_wine().target, test_size=12, stratify=load_wine().target, random_state=0
    )[1]
    assert sum(voted == truth) >= 11


def test_weighted_average(example):  # F6 F9
    results, _ = example("weighted_average", "average")
    members = children(results, "predict")
    assert [member["model"] for member in members] == ["ridge", "neighbours", "tree", "forest"]
    predictions = [member["predictions"] for member in members]
    weighted = np.average(predictions, axis=0, weights=[one["confidence"] for one in members])
    assert results["weighted_average"]["aggregated_result"] == pytest.approx(weighted, abs=0.006)
    truth = train_test_split(load_diabetes().target, test_size=10, random_state=0)[1]
    judged = results["judge"]
    assert judged["weighted average"] == pytest.approx(abs(weighted - truth).mean(), abs=0.02)
    assert judged["weighted average"] < judged["plain average"]


def test_end_to_end(example):  # W1 W2 W4 F1 F2 F6 F9
    given = ("--set", "costs=[0.5, 5]", "--set", "folds=3")
    results, _ = example("end_to_end", "chain", *given)
    split = results["load"]
    measured, kinds = load_breast_cancer(return_X_y=True)
    assert sorted(split["train"] + split["held_out"]) == list(range(569))
    tried = children(results, "tune")
    assert [one["settings"] for one in tried] == [
        {"C": C, "class_weight": weight} for C in (0.5, 5) for weight in (None, "balanced")
    ]
    assert tried[0]["label"] == "C=0.5 class_weight=null"
    seen, known = measured[split["train"]], kinds[split["train"]]
    scale = StandardScaler().fit(seen)
    for one in tried:
        model = LogisticRegression(max_iter=1000, **one["settings"])
        losses = cross_val_score(model, scale.transform(seen), known, cv=3, scoring="neg_log_loss")
        assert one["log_loss"] == pytest.approx(-losses.mean(), abs=1e-5)
    best = min(tried, key=lambda one: one["log_loss"])
    assert results["best"]["aggregated_result"] == best
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, **best["settings"]))
    held = split["held_out"]
    accuracy = round(model.fit(seen, known).score(measured[held], kinds[held]), 4)
    assert results["evaluate"]["accuracy"] == accuracy > 0.9
    missed, alarms = results["evaluate"]["missed"], results["evaluate"]["false_alarms"]
    assert results["report"]["text"] == [
        f"Best of 4: {best['label']}",
        f"right: {accuracy} of 143 held out",
        f"missed: {missed}, alarms: {alarms}",
        "written as ${jobs.evaluate.result.accuracy}",
    ]


def test_the_pages_quote_the_files_beside_them():  # F9 A5
    for page in EXAMPLES.glob("*/README.md"):
        files = [*page.parent.glob("*.py"), *page.parent.glob("*.yaml")]
        lines = {line.strip() for file in files for line in file.read_text().splitlines()}
        for block in re.findall(r"```(?:yaml|python)\n(.*?)```", page.read_text(), re.DOTALL):
            assert {line.strip() for line in block.splitlines()} <= lines, page
