import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.data.augmentation import PadAndCrop, train_transform
from resnetkit.data.balancing import class_counts, class_weights, draw_weights
from resnetkit.data.loader import Loader
from resnetkit.data.sources import ArraySource
from resnetkit.errors import InvalidArgument


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=20).filter(any), st.sampled_from([0.0, 0.9, 0.999, 0.9999]))
def test_weights_are_the_inverse_of_the_papers_effective_numbers(counts: list[int], beta: float) -> None:
    weights = class_weights(np.array(counts), beta)
    # Equation 2 as the sum it comes from: each further image adds β times what the one before added.
    effective = [sum(beta**k for k in range(n)) for n in counts]
    product = [weight * number for weight, number, n in zip(weights, effective, counts, strict=True) if n]
    np.testing.assert_allclose(product, product[0], rtol=1e-6)
    assert [weight == 0 for weight in weights] == [n == 0 for n in counts]
    assert (weights * counts).sum() == pytest.approx(sum(counts))


def test_the_ends_of_beta() -> None:
    counts = np.array([10, 40, 100])
    np.testing.assert_allclose(class_weights(counts, 0.0), 1.0)
    np.testing.assert_allclose(class_weights(counts, 1 - 1e-12) * counts, 50, rtol=1e-3)
    for beta in (-0.1, 1.0):
        with pytest.raises(InvalidArgument, match="balance_beta"):
            Recipe(balance_beta=beta)


def source(labels: np.ndarray, targets: np.ndarray | None = None, weights: np.ndarray | None = None) -> ArraySource:
    n = len(labels)
    return ArraySource(
        np.zeros((n, 8, 8, 1), np.uint8), labels, None, 3, np.arange(n), targets=targets, weights=weights
    )


def test_the_sampler_draws_classes_by_weight_times_images() -> None:
    labels = np.repeat([0, 1, 2], [300, 90, 10])
    uneven = source(labels)
    weights = class_weights(class_counts(uneven), 1 - 1e-9)
    transform = train_transform(PadAndCrop(), Preprocess.for_size(8))
    loader = Loader(uneven, transform, 50, shuffle_seed=0, weights=draw_weights(uneven, weights))
    drawn = np.bincount(np.concatenate([batch.labels.numpy() for batch in loader.batches()]))
    np.testing.assert_allclose(drawn, 400 / 3, atol=2)


def test_a_tables_weights_and_several_labels_count_too() -> None:
    labels = np.array([0, 1, 2, 0])
    weights = np.array([1.0, 2.0, 8.0])
    assert draw_weights(source(labels, weights=np.array([1.0, 3.0, 0.0, 1.0])), weights).tolist() == [1, 6, 0, 1]
    targets = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 0, 0]], np.uint8)
    several = source(labels, targets)
    assert class_counts(several).tolist() == [3, 1, 1]
    assert draw_weights(several, weights).tolist() == [2, 1, 8, 1]
