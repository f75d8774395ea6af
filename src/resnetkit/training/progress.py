"""What a run tells whoever listens: frozen facts, one kind each for the start, a step, an epoch and a remark."""

from collections.abc import Callable
from dataclasses import dataclass

from resnetkit.training.plan import Plan


@dataclass(frozen=True)
class Began:
    """Training is about to take its first step (or its first after a resume)."""

    plan: Plan
    run: str
    train_images: int
    val_images: int
    steps: int
    parameters: int
    total: int
    """steps from the first to the last; where the plan's budget ends the run, an estimate"""
    class_images: tuple[int, ...]
    """training images of each class; empty where nobody knows beforehand"""
    seconds: float
    """that the rest of it is expected to take"""
    resumed_epoch: int | None
    resumed_step: int


@dataclass(frozen=True)
class Preparing:
    """Images are being fetched, looked at or decoded before training: `done` of `total` so far."""

    doing: str
    done: int
    total: int


@dataclass(frozen=True)
class Stepped:
    """A step is done; loss, accuracy and speed are means over the epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is done and its model was scored on the validation part, if there is one."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_score: float | None
    """accuracy, or of several labels the mean average precision"""
    val_n: int
    best: bool
    images_per_second: float
    waited: float
    """share of the epoch's training time in which the step waited for images"""
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Remark:
    """Something the person should know."""

    text: str


Event = Preparing | Began | Stepped | EpochEnded | Remark
Listener = Callable[[Event], None]


def nobody(event: Event) -> None:
    """The listener of those who asked for nothing."""
