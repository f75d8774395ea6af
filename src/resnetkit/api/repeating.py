"""The same training with several seeds: what a recipe scores, and how much of a difference is chance."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetkit.api.training import TrainResult, resume, train
from resnetkit.checkpoints.atomic import write_text_atomically
from resnetkit.errors import InvalidArgument, RunError
from resnetkit.evaluation.scoring import Measure
from resnetkit.training.interruption import Interrupted
from resnetkit.training.plan import Plan
from resnetkit.training.processes import is_first
from resnetkit.training.progress import Remark, nobody
from resnetkit.training.run import Run

_BESIDE = ("checkpoint_steps", "checkpoint_minutes", "workers", "listener")
"""what changes no number, so that it may be another when the same training goes on"""


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
    held out. In a folder that holds some of these very trainings already, they are continued, or taken as they ended.
    """
    if seeds < 2:
        raise InvalidArgument(f"{seeds} seeds: a deviation needs two at least")
    first = seed or 0
    asked = range(first, first + seeds)
    folder = Run.create(output).path if is_first() else Path(output or "runs")
    if is_first():
        _check_same(folder, asked, {"data": arguments, **others})
    results: tuple[TrainResult, ...] = ()
    try:
        for each in asked:
            results += (_begun_or_continued(folder / f"seed-{each}", each, arguments, others),)
            others = others | _network_of(results[0])
    except Interrupted:
        if is_first():
            again = f"note: the same command with --output {folder} goes on with this seed and trains those after it"
            others.get("listener", nobody)(Remark(again))
        raise
    scores = [each.best_score for each in results if each.best_score is not None]
    if len(scores) < len(results):
        return SeedsResult(results, None, None)
    return SeedsResult(results, statistics.mean(scores), statistics.stdev(scores))


def _begun_or_continued(path: Path, seed: int, arguments: tuple[Any, ...], others: Mapping[str, Any]) -> TrainResult:
    if Run(path).recipe.is_file():
        return resume(path, **{name: others[name] for name in _BESIDE if name in others})
    return train(*arguments, output=path, seed=seed, **others)


def _check_same(folder: Path, seeds: Iterable[int], settings: Mapping[str, Any]) -> None:
    """Whether what is in the folder, if anything, is of the same training; a note of it is left for the next time."""
    said = {name: str(value) for name, value in settings.items() if value is not None and name not in _BESIDE}
    note = folder / "seeds.json"
    before = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
    if before is None and any(Run(folder / f"seed-{each}").recipe.is_file() for each in seeds):
        raise RunError(f"{folder} already holds runs of these seeds: name another folder with --output")
    if before is not None and before != said:
        other = sorted(name for name in {*before, *said} if before.get(name) != said.get(name))
        raise RunError(
            f"{folder} holds seeds of another training (not the same: {', '.join(other)}): put that back, or name "
            "another folder with --output"
        )
    write_text_atomically(note, json.dumps(said))


def _network_of(result: TrainResult) -> dict[str, Any]:
    """The network that a run took, for others to take: by the clock another might be chosen."""
    model = Plan.read(Run(result.run).recipe).model
    return {} if model.weights else {"model": model.row, "larger_models": ()}
