"""How the learning rate moves over a run."""

import math
from dataclasses import dataclass

from resnetkit.catalog.recipe import Recipe, ScheduleKind


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The rate of each step: of the head's own phase if there is one, then warm-up and fall over the rest."""

    peak: float
    total: int
    """steps of the whole run"""
    warmup: int = 0
    head: int = 0
    """steps in which the classifier alone is trained"""
    kind: ScheduleKind = "cosine"
    drops: tuple[float, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe, steps: int, total: int) -> "Schedule":
        """The schedule of a resolved recipe with `steps` steps an epoch and `total` in all."""
        if recipe.lr is None or not math.isfinite(recipe.lr):
            raise ValueError("the plan must say the learning rate")
        head = min(round(recipe.head_epochs * steps), total // 2)
        warmup = min(round(recipe.warmup_epochs * steps), (total - head) // 5)
        return cls(
            peak=recipe.lr, total=total, warmup=warmup, head=head, kind=recipe.schedule, drops=recipe.lr_drops
        )  # fmt: skip

    def rate(self, step: float) -> float:
        """The learning rate at the place `step` (from 0) of `total`, which is no whole number where a clock rules.

        >>> [round(Schedule(peak=1.0, total=8, head=2, warmup=2).rate(step), 2) for step in range(8)]
        [1.0, 0.5, 0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
        """
        if step < self.head:
            # A new classifier on features that stand still needs no warm-up; the fall leaves it calm for what follows.
            return learning_rate(step, peak=self.peak, warmup=0, total=self.head)
        return learning_rate(
            step - self.head, peak=self.peak, warmup=self.warmup, total=self.total - self.head, kind=self.kind,
            drops=self.drops,
        )  # fmt: skip


def learning_rate(
    step: float, *, peak: float, warmup: int, total: int, kind: ScheduleKind = "cosine", drops: tuple[float, ...] = ()
) -> float:
    """The rate of step `step` (from 0) of `total`: linear up over `warmup` steps, then down as `kind` says.

    "cosine" and "linear" fall to nearly zero; "step" divides by ten at each share of `total` in `drops`.

    >>> [round(learning_rate(s, peak=1.0, warmup=2, total=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    >>> [learning_rate(s, peak=1.0, warmup=0, total=4, kind="linear") for s in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    >>> [learning_rate(s, peak=1.0, warmup=0, total=4, kind="step", drops=(0.5, 0.75)) for s in range(4)]
    [1.0, 1.0, 0.1, 0.01...]
    >>> learning_rate(1.9, peak=1.0, warmup=2, total=6)
    1.0
    """
    if step < warmup:
        return peak * min(step + 1, warmup) / warmup  # a clock may stand between two steps
    done = (step - warmup) / max(1, total - warmup)
    match kind:
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return peak * (1 - done)
        case "step":
            return peak / float(10 ** sum(step >= share * total for share in drops))
        case "constant":
            return peak
