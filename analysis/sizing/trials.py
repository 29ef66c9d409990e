"""Trials of the sizing experiment: for each data set, what its rows say and how each width does."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.sizing.tables import table
from capacity import label_entropy, requirement
from capacity.pilots import split, train

if TYPE_CHECKING:
    from analysis.sizing.config import Config


def measure_one(name: str, config: "Config") -> list[dict[str, Any]]:
    """The rows of one data set: its facts, and the errors of each width and seed."""
    features, labels = table(name, config.rows)
    facts = {"dataset": name} | facts_of(features, labels)
    splits = split(features, labels, config.trial_seeds)
    rows = []
    for width in config.widths:
        trained = train(splits, width, steps=config.steps, learning_rate=config.learning_rate)
        errors = zip(trained.validation, trained.test, trained.training, strict=True)
        for seed, (validation, test, training) in zip(config.trial_seeds, errors, strict=True):
            rows.append(
                facts | {"width": width, "seed": seed, "validation_error": validation, "test_error": test,
                         "training_error": training}
            )  # fmt: skip
    return rows


def facts_of(features: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """What a predictor may look at, from the rows that are trained on with seed 0: no network is trained."""
    from sklearn.tree import DecisionTreeClassifier

    rows = len(labels)
    chosen = np.random.default_rng(0).permutation(rows)[: rows - 2 * (rows // 5)]
    x, y = features[chosen], labels[chosen]
    need = requirement(x, y, repeats=3)
    linear, nearest = _simple_errors(x, y)
    leaves = DecisionTreeClassifier(random_state=0).fit(x, y).get_n_leaves()
    return {
        "rows": need.rows, "features": need.features, "classes": int(labels.max()) + 1,
        "label_bits": label_entropy(y), "thresholds": need.thresholds, "growth": need.growth,
        "linear_error": linear, "neighbour_error": nearest, "tree_leaves": int(leaves),
    }  # fmt: skip


def _simple_errors(x: NDArray[np.float64], y: NDArray[np.int64]) -> tuple[float, float]:
    """Cross-validated errors of logistic regression and of five nearest neighbours."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = KFold(5, shuffle=True, random_state=0)
    linear, nearest = (
        1 - float(cross_val_score(make_pipeline(StandardScaler(), model), x, y, cv=folds).mean())
        for model in (LogisticRegression(max_iter=500), KNeighborsClassifier(5))
    )
    return linear, nearest
