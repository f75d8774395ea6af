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


@given(st.integers(0, 2**32), st.integers(1, 4), st.floats(0.05, 0.5))
def test_groups_go_to_one_side_and_the_rest_is_as_stratified_as_before(seed: int, classes: int, share: float) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, 300)
    members = random.permutation(300)[:90].reshape(30, 3)
    together = [sorted(group) for group in members.tolist()]
    count = round(share * 300)
    kept, held = hold_out(labels, count, seed, together)
    assert sorted([*kept, *held]) == list(range(300))
    sides = np.isin(np.arange(300), held)
    for group in together:
        assert len(set(sides[group])) == 1
    assert len(held) == pytest.approx(count, abs=classes + 2)
    expected = np.bincount(labels, minlength=classes) * len(held) / 300
    # A group of mixed classes counts as one of them.
    np.testing.assert_allclose(np.bincount(labels[held], minlength=classes), expected, atol=4 + 0.25 * count)


def test_without_copies_the_split_is_the_one_it_always_was() -> None:
    labels = np.random.default_rng(1).integers(0, 5, 200)
    assert hold_out(labels, 20, 7)[1].tolist()[:6] == hold_out(labels, 20, 7, [[3]])[1].tolist()[:6]


def test_ten_scenes_of_many_frames_give_whole_scenes() -> None:
    together = [list(range(start, start + 10)) for start in range(0, 400, 10)]
    _, held = hold_out(np.repeat([0, 1], 200), 40, 5, together)
    assert len(held) == 40
    assert sorted(np.unique(held // 10, return_counts=True)[1]) == [10] * 4
