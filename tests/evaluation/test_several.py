"""Scores of several labels against scikit-learn's and against all thresholds there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from resnetkit.errors import DataError
from resnetkit.evaluation.several import best_threshold, score_several


def answers(seed: int, n: int = 40, classes: int = 4):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, classes)) < 0.3).astype(np.uint8)
    targets[0, 0] = 1
    probs = np.clip(0.4 * targets + 0.6 * rng.random((n, classes)), 0, 1).round(2).astype(np.float32)
    return probs, targets


@given(seed=st.integers(0, 10_000))
def test_no_threshold_has_a_better_f1_than_the_best(seed: int):
    probs, targets = answers(seed, n=8, classes=3)
    best = best_threshold(probs, targets)
    cuts = [*np.unique(probs), 1.1]
    reached = metrics.f1_score(targets.ravel(), (probs >= best).ravel(), zero_division=0)
    assert reached == pytest.approx(
        max(metrics.f1_score(targets.ravel(), (probs >= cut).ravel(), zero_division=0) for cut in cuts)
    )


def test_scores_are_scikit_learns():
    probs, targets = answers(3)
    scores = score_several(probs, targets, tuple("abcd"), threshold=0.5)
    said = probs >= 0.5
    assert scores.mean_ap == pytest.approx(metrics.average_precision_score(targets, probs, average="macro"))
    assert scores.f1 == pytest.approx(metrics.f1_score(targets, said, average="micro"))
    assert scores.exact == pytest.approx(metrics.accuracy_score(targets, said))
    inside = np.clip(probs.astype(np.float64), 1e-7, 1 - 1e-7)
    wanted = np.mean([metrics.log_loss(targets[:, c], inside[:, c], labels=[0, 1]) for c in range(4)])
    assert scores.loss == pytest.approx(wanted)
    for c, each in enumerate(scores.classes):
        assert (each.name, each.n) == ("abcd"[c], targets[:, c].sum())
        assert each.recall == pytest.approx(metrics.recall_score(targets[:, c], said[:, c]))
        assert each.precision == pytest.approx(metrics.precision_score(targets[:, c], said[:, c]))


def test_a_class_that_no_image_has_is_left_out_of_the_mean():
    probs, targets = answers(1)
    targets[:, 2] = 0
    scores = score_several(probs, targets)
    assert [each.name for each in scores.classes] == ["0", "1", "3"]
    assert scores.mean_ap == pytest.approx(np.mean([each.average_precision for each in scores.classes]))
    with pytest.raises(DataError, match="none of these images has a label"):
        score_several(probs, np.zeros_like(targets))
