"""What became of every tensor of an adopted file."""

from dataclasses import asdict, dataclass
from typing import Any

from resnetkit.checkpoints.compare import Shape


@dataclass(frozen=True)
class Match:
    """A tensor of the file and where it went."""

    theirs: str
    ours: str
    shape: Shape


@dataclass(frozen=True)
class Dropped:
    """A tensor of the file that the network has no place for."""

    theirs: str
    shape: Shape
    reason: str


@dataclass(frozen=True)
class Filled:
    """A tensor of the network that the file lacks, and what stands in for it."""

    ours: str
    shape: Shape
    value: str


@dataclass(frozen=True)
class Report:
    """Tensor by tensor; `notes` say what shapes could not decide and how to state it."""

    layout: str
    matched: tuple[Match, ...]
    dropped: tuple[Dropped, ...] = ()
    filled: tuple[Filled, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)
