"""The same training with several seeds: what a recipe scores, and how much of a difference is chance."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetkit.api.training import TrainResult, train
from resnetkit.errors import InvalidArgument
from resnetkit.evaluation.scoring import Measure
from resnetkit.training.plan import Plan
from resnetkit.training.run import Run


@dataclass(frozen=True)
class SeedsResult:
    """Finished runs that differ in their seed only, and the mean and deviation of what their best epochs scored."""

    runs: tuple[TrainResult, ...]
    mean_score: float | None
    deviation_score: float | None
    """of a sample: what the next seed will be off by, about"""

    @property
    def measure(self) -> Measure:
        """What was scored, as in each run."""
        return self.runs[0].measure

    def to_dict(self) -> dict[str, Any]:
        """JSON values; shares of 1."""
        return {
            "seeds": len(self.runs), "split": "val", f"mean_{self.measure}": self.mean_score,
            f"deviation_{self.measure}": self.deviation_score, "runs": [run.to_dict() for run in self.runs],
        }  # fmt: skip


def train_with_seeds(
    seeds: int, *arguments: Any, output: str | Path | None = None, seed: int | None = None, **others: Any
) -> SeedsResult:
    """Train `seeds` times as `train` does, with the seeds `seed`, `seed` + 1, …, into OUTPUT/seed-0 and so on.

    The seed decides the first weights, all that is random, and, where the data has no validation part, which images are
    held out.
    """
    if seeds < 2:
        raise InvalidArgument(f"{seeds} seeds: a deviation needs two at least")
    folder = Run.create(output).path
    first = seed or 0
    results: tuple[TrainResult, ...] = ()
    for each in range(first, first + seeds):
        results += (train(*arguments, output=folder / f"seed-{each}", seed=each, **others),)
        others = others | _network_of(results[0])
    scores = [each.best_score for each in results if each.best_score is not None]
    if len(scores) < len(results):
        return SeedsResult(results, None, None)
    return SeedsResult(results, statistics.mean(scores), statistics.stdev(scores))


def _network_of(result: TrainResult) -> dict[str, Any]:
    """The network that a run took, for others to take: by the clock another might be chosen."""
    model = Plan.read(Run(result.run).recipe).model
    return {} if model.weights else {"model": model.row, "larger_models": ()}
