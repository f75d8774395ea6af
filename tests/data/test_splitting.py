import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.data.splitting import hold_out


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.floats(0, 0.9), st.integers(0, 2**40))
def test_stratified_disjoint_and_exact(sizes: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = round(share * len(labels))
    kept, held = hold_out(labels, count, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    given_up = np.bincount(labels[held], minlength=len(sizes))
    for size, gave in zip(sizes, given_up, strict=True):
        assert gave <= size - 1
        if size > 1:
            assert gave >= 1
    most = sum(size - 1 for size in sizes)
    least = sum(size > 1 for size in sizes)
    if count <= most:
        assert len(held) >= min(count, most)
    if least <= count <= most:
        assert len(held) == pytest.approx(count, abs=least)


def test_shares_are_proportional() -> None:
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    _, held = hold_out(labels, 100, seed=4)
    assert np.bincount(labels[held]).tolist() == [70, 20, 10]


def test_the_seed_chooses() -> None:
    labels = np.repeat([0, 1], 50)
    first, again, other = (hold_out(labels, 10, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
