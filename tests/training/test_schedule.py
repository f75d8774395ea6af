import math
from itertools import pairwise

import pytest

from resnetkit.catalog.recipe import Recipe
from resnetkit.training.schedule import Schedule, learning_rate


def test_the_rate_rises_then_falls_along_a_cosine_to_nearly_zero():
    rates = [learning_rate(step, peak=0.4, warmup=10, total=110) for step in range(110)]
    assert max(rates) == 0.4
    assert rates[:10] == [0.4 * (step + 1) / 10 for step in range(10)]
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert math.isclose(rates[60], 0.2)
    assert 0 < rates[-1] < 0.001


def test_without_warmup_it_begins_at_the_peak():
    assert learning_rate(0, peak=1.0, warmup=0, total=1) == 1.0


def test_a_linear_fall_is_a_triangle_with_its_warmup():
    rates = [learning_rate(step, peak=1.0, warmup=20, total=100, kind="linear") for step in range(100)]
    differences = {round(b - a, 9) for a, b in pairwise(rates)}
    assert differences == {0.05, 0.0, -0.0125}  # up to the peak, which stands for two steps, and down
    assert rates[-1] == pytest.approx(0.0125)


def test_the_paper_divides_by_ten_at_32k_and_48k_of_64k_steps():
    schedule = Schedule(peak=0.1, total=64_000, kind="step", drops=(0.5, 0.75))
    assert schedule.rate(31_999) == 0.1
    assert schedule.rate(32_000) == schedule.rate(47_999) == pytest.approx(0.01)
    assert schedule.rate(48_000) == schedule.rate(63_999) == pytest.approx(0.001)


def test_the_head_has_a_phase_of_its_own_and_takes_at_most_half():
    schedule = Schedule.of(Recipe(lr=1.0, epochs=5, head_epochs=1, warmup_epochs=1), steps=10, total=50)
    assert (schedule.head, schedule.warmup, schedule.total) == (10, 8, 50)
    assert schedule.rate(0) == 1.0
    assert schedule.rate(9) < 0.05
    assert schedule.rate(10) == 1 / 8
    assert schedule.rate(17) == 1.0
    assert schedule.rate(49) < 0.01
    assert Schedule.of(Recipe(lr=1.0, epochs=1, head_epochs=5), steps=10, total=10).head == 5


def test_an_open_rate_is_refused():
    with pytest.raises(ValueError, match="learning rate"):
        Schedule.of(Recipe(), steps=10, total=10)


@pytest.mark.parametrize("warmup", [1, 2, 7])
def test_between_two_steps_of_the_warmup_the_rate_is_never_above_the_peak(warmup: int):
    """Where a clock rules, places are no whole numbers."""
    rates = [learning_rate(step / 10, peak=0.4, warmup=warmup, total=20) for step in range(200)]
    assert max(rates) == 0.4
    assert all(a <= b for a, b in pairwise(rates[: 10 * warmup]))
