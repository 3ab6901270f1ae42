"""The classifier of known tasks against scikit-learn's."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tools.detect_drift.discriminants import fit, shrunken_covariance
from tools.detect_drift.permutation import Array


def sample(seed: int, rows: int, features: int, shift: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    mixed: Array = rng.normal(size=(rows, features)) @ rng.normal(size=(features, features)) + shift
    return mixed


def by_scikit_learn(samples: list[Array], points: Array) -> Array:
    labels = np.repeat(np.arange(len(samples)), [len(it) for it in samples])
    share = np.full(len(samples), 1 / len(samples))
    library = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=share)
    found: Array = library.fit(np.concatenate(samples), labels).predict_log_proba(points)
    return found


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize(("rows", "features"), [(40, 6), (12, 30), (4, 2)])
def test_log_probabilities_are_scikit_learns(classes: int, rows: int, features: int) -> None:
    samples = [sample(k, rows + k, features, shift=k / 2) for k in range(classes)]
    points = sample(99, 20, features)
    expected, found = by_scikit_learn(samples, points), fit(samples).log_probabilities(points)
    likely = expected > -30  # the library goes through probabilities and loses the others
    assert np.allclose(found[likely], expected[likely], rtol=1e-8, atol=1e-8)
    assert bool((found[~likely] < -29).all())


def test_the_covariance_is_ledoit_and_wolfs() -> None:
    rows = sample(0, 10, 25)
    scale = rows.std(0)
    expected = ledoit_wolf((rows - rows.mean(0)) / scale)[0] * np.outer(scale, scale)
    assert np.allclose(shrunken_covariance(rows), expected, rtol=1e-10)


def test_a_feature_that_never_varies_is_no_trouble() -> None:
    samples = [np.column_stack([sample(k, 30, 4, shift=k), np.full(30, 0.1)]) for k in range(3)]
    points = np.column_stack([sample(9, 10, 4), np.full(10, 0.1)])
    assert np.allclose(fit(samples).log_probabilities(points), by_scikit_learn(samples, points), atol=1e-8)


def test_identical_rows_give_equal_probabilities() -> None:
    found = fit([np.ones((5, 3)), np.ones((6, 3))]).log_probabilities(np.ones((2, 3)))
    assert np.allclose(found, np.log(0.5))
