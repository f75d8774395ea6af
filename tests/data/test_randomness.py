import numpy as np

from resnetkit.data.randomness import permutation, raw_bits, uniform


def test_the_same_address_gives_the_same_number_for_ever() -> None:
    # These words are what runs of every version must repeat; they were written down, not derived.
    assert raw_bits("augment", seed=1, epoch=2, count=1, start=3, words=2).tolist() == [
        [5383276803779107194, 10163914416364673786]
    ]
    assert permutation("order", seed=0, epoch=0, n=8).tolist() == [7, 4, 2, 0, 1, 5, 6, 3]


def test_each_part_of_the_address_matters() -> None:
    base = uniform("augment", 1, 1, count=4, columns=3)
    for other in (
        uniform("augment", 2, 1, count=4, columns=3),
        uniform("augment", 1, 2, count=4, columns=3),
        uniform("split", 1, 1, count=4, columns=3),
        uniform("augment", 1, 1, count=4, columns=3, start=4),
    ):
        assert not np.isin(other, base).any()


def test_numbers_are_uniform() -> None:
    numbers = uniform("augment", 0, 0, count=20_000, columns=5)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(numbers.T), np.eye(5), atol=0.03)


def test_no_columns_are_no_numbers() -> None:
    assert uniform("augment", 0, 0, count=7, columns=0).shape == (7, 0)


def test_permutations_are_permutations() -> None:
    order = permutation("order", seed=5, epoch=1, n=1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != permutation("order", seed=5, epoch=2, n=1000).tolist()
