"""Scores against scikit-learn's on random probabilities, and against arithmetic where there is no doubt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.errors import DataError
from resnetkit.evaluation.scoring import probabilities, score
from resnetkit.models import build
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.labels import LabelMap


def random_case(seed: int, n: int, classes: int):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes) * 0.5, n).astype(np.float32)
    return probs, rng.integers(0, classes, n)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 80), classes=st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_agrees_with_scikit_learn(seed, n, classes):
    probs, truth = random_case(seed, n, classes)
    scores = score(probs, truth)
    said = probs.argmax(1)
    labels = np.arange(classes)
    assert scores.top1 == pytest.approx(metrics.accuracy_score(truth, said))
    if classes > 5:
        assert scores.top5 == pytest.approx(metrics.top_k_accuracy_score(truth, probs, k=5, labels=labels))
    assert scores.loss == pytest.approx(
        -np.log(np.maximum(probs[np.arange(n), truth], 1e-38).astype(np.float64)).mean()
    )
    assert np.array_equal(scores.confusion, metrics.confusion_matrix(truth, said, labels=labels))
    assert scores.balanced == pytest.approx(
        metrics.recall_score(truth, said, average="macro", labels=np.unique(truth), zero_division=0)
    )
    low, high = scores.top1_ci95
    assert low <= scores.top1 <= high


def test_a_tie_is_not_counted_as_right_for_the_later_class():
    probs = np.full((2, 3), 1 / 3, np.float32)
    assert score(probs, np.array([0, 2])).right == 1


def test_wilson_interval_of_a_known_case():
    probs = np.array([[1.0, 0.0]] * 81 + [[0.0, 1.0]] * 182, np.float32)
    low, high = score(probs, np.zeros(263, np.int64)).top1_ci95
    # Newcombe 1998, table I: 81 of 263.
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_perfectly_calibrated_and_perfectly_wrong_confidence():
    sure = np.array([[1.0, 0.0]] * 4, np.float32)
    assert score(sure, np.zeros(4, np.int64)).ece == pytest.approx(0.0)
    assert score(sure, np.ones(4, np.int64)).ece == pytest.approx(1.0)


def test_nothing_to_score_is_an_error():
    network = build(architecture("resnet20"), num_classes=2)
    classifier = TorchClassifier(network, num_classes=2, class_names=None, preprocess=Preprocess.for_size(32))
    with pytest.raises(DataError, match="no image to evaluate"):
        probabilities(classifier, [], LabelMap((0, 1)))
