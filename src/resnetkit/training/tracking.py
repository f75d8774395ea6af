"""A run's numbers in the tools in which people watch and compare runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, final

from resnetkit.errors import MissingExtra
from resnetkit.evaluation.scoring import Measure
from resnetkit.evaluation.several import measure_of
from resnetkit.training.progress import Began, EpochEnded, Event, Listener, Stepped

Tracker = Literal["tensorboard"]

_EVERY = 10  # steps between two points of a curve within an epoch


class Board(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, at a step of the run."""

    def close(self) -> None:
        """Nothing more comes."""


@contextmanager
def tracked(listener: Listener, tracker: Tracker | None) -> Iterator[Listener]:
    """A listener that tells `listener` all that it hears, and a tracker the numbers."""
    if tracker is None:
        yield listener
        return
    _OPENERS[tracker].check()
    tracking = _Tracking(listener, tracker)
    try:
        yield tracking
    finally:
        tracking.close()


@final
class _Tracking:
    def __init__(self, listener: Listener, tracker: Tracker) -> None:
        self._listener, self._tracker = listener, tracker
        self._board: Board | None = None
        self._measure: Measure = "top1"

    def __call__(self, event: Event) -> None:
        self._listener(event)
        if isinstance(event, Began):
            self._measure = measure_of(event.plan.data.task)
            self._board = _OPENERS[self._tracker](Path(event.run), event.plan.to_dict())
        elif self._board and isinstance(event, Stepped) and event.step % _EVERY == 0:
            step = (event.epoch - 1) * event.steps + event.step
            self._board.log({"step/loss": event.loss, "step/images_per_second": event.images_per_second}, step)
        elif self._board and isinstance(event, EpochEnded):
            values = {
                "train/loss": event.loss, "train/top1": event.accuracy, "val/loss": event.val_loss,
                f"val/{self._measure}": event.val_score, "images_per_second": event.images_per_second,
            }  # fmt: skip
            self._board.log({name: value for name, value in values.items() if value is not None}, event.epoch)

    def close(self) -> None:
        if self._board:
            self._board.close()


@final
class _TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir runs`."""

    @staticmethod
    def check() -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise _missing("tensorboard", error) from error

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in _flat(settings).items()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


_OPENERS: Mapping[Tracker, Any] = {"tensorboard": _TensorBoard}


def _missing(package: str, error: ImportError) -> MissingExtra:
    return MissingExtra(
        f"--track {package} needs a package that is not here ({error}): pip install 'resnetkit[{package}]'"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
