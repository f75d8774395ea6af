"""What a run keeps on disk, and what it does when the disk refuses: train on, say so, try again."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor

from resnetkit.checkpoints import modelfile
from resnetkit.errors import CheckpointError, WriteFailed
from resnetkit.tasks.memory import is_out_of_memory
from resnetkit.training.interruption import Interrupted, Interruption
from resnetkit.training.learner import Learner
from resnetkit.training.run import Run
from resnetkit.training.snapshot import Position, save_snapshot

_AGAIN = 60.0  # seconds until the next try while training goes on
_LAST_TRY = 600.0  # seconds of waiting for space when training is done: it is cheaper to free some than to train anew
_PAUSE = 1.0  # seconds between two tries then


@final
class Keeper:
    """Writes the best model, the lines of metrics and the snapshots of a run.

    A snapshot is written only after all that it takes for granted is on disk. What could not be written is owed: held
    in memory and written first when there is space again. Where `writes` is false (all processes of a job but the
    first) nothing is done.
    """

    def __init__(
        self,
        run: Run,
        learner: Learner,
        say: Callable[[str], None],
        *,
        steps: int | None = None,
        minutes: float = 10.0,
        writes: bool = True,
    ) -> None:
        self._run, self._learner, self._say = run, learner, say
        self._steps, self._minutes, self._writes = steps, minutes, writes
        self._model: tuple[dict[str, Tensor], modelfile.ModelCard] | None = None
        self._lines: list[tuple[int, Mapping[str, Any]]] = []
        self._written_at = time.monotonic()
        self._refused_at = 0.0
        self.refusal: WriteFailed | None = None
        """why the last snapshot is not on disk, if it is not"""
        self.paused = 0.0
        """seconds for which writing kept training waiting"""

    def keep_model(self, card: modelfile.ModelCard) -> None:
        """The model as it is now is the best."""
        if self._writes:
            self._model = self._learner.model.state_dict(), card
            if not self._attempt(self._pay) and not self._attempt(self._copy):
                self._model = None
                self._say(f"the best model so far, of epoch {card.training['epoch']}, could not be kept")

    def keep_line(self, epoch: int, values: Mapping[str, Any]) -> None:
        """The metrics of epoch `epoch` (from 0)."""
        if self._writes:
            self._lines.append((epoch, values))
            self._attempt(self._pay)

    def keep_snapshot(self, position: Position) -> bool:
        """Write a snapshot of this moment; whether it is on disk."""
        if not self._writes:
            return True
        if not self._learner.finite():
            return False  # the next step will show it and go back to the snapshot that there is
        done = self._attempt(lambda: self._snapshot(position))
        if done and self.refusal:
            self._say("writing works again: nothing was lost")
            self.refusal = None
        return done

    def keep_first_snapshot(self, position: Position) -> None:
        """The one that shows, before any work, that snapshots can be written there. Raises WriteFailed."""
        if self._writes:
            with _memory_counted_as_space():
                self._snapshot(position)

    def keep_snapshot_if_due(self, position: Position) -> None:
        """Every so many steps, every so many minutes, and a while after a refusal."""
        now = time.monotonic()
        again = self.refusal is not None and now - self._refused_at > _AGAIN
        by_steps = self._steps is not None and position.global_step % self._steps == 0
        if again or by_steps or now - max(self._written_at, self._refused_at) > 60 * self._minutes:
            self.keep_snapshot(position)

    def forget_from(self, epoch: int) -> None:
        """The run was rolled back to `epoch` (from 0): what is owed of it and of later ones will be made again."""
        self._lines = [(each, values) for each, values in self._lines if each < epoch]
        if self._model and self._model[1].training["epoch"] > epoch:  # which counts from 1
            self._model = None

    def finish(self, position: Position, interruption: Interruption) -> None:
        """If the last snapshot was refused, wait for space: ten minutes, or until a signal. Raises WriteFailed."""
        until = time.monotonic() + _LAST_TRY
        while self.refusal and not self.keep_snapshot(position):
            if interruption.received:
                raise Interrupted(str(self._run.path), interruption.received, self.refusal)
            if time.monotonic() > until:
                raise self.refusal
            time.sleep(_PAUSE)

    def _snapshot(self, position: Position) -> None:
        self._pay()
        save_snapshot(self._run.checkpoint, self._learner, position)
        self._written_at = time.monotonic()

    def _copy(self) -> None:
        """Of the model that is owed: training will change the tensors themselves."""
        if self._model:
            tensors, card = self._model
            self._model = {key: tensor.detach().clone() for key, tensor in tensors.items()}, card

    def _pay(self) -> None:
        if self._model:
            modelfile.save(self._run.model, *self._model)
            self._model = None
        while self._lines:
            self._run.append_metrics(*self._lines[0])
            del self._lines[0]

    def _attempt(self, write: Callable[[], None]) -> bool:
        began = time.monotonic()
        try:
            with _memory_counted_as_space():
                write()
        except (WriteFailed, CheckpointError, OSError) as error:
            if self.refusal is None:
                self._say(f"{error}. Training goes on and tries again; the checkpoint before is kept")
            # The words alone: the error's frames hold on to the copy that could not be written.
            self.refusal, self._refused_at = WriteFailed(str(error)), time.monotonic()
            return False
        finally:
            self.paused += time.monotonic() - began
        return True


@contextmanager
def _memory_counted_as_space() -> Iterator[None]:
    """What is written is copied first: a shortage of memory for that is as little a reason to end as a full disk."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        shortage = (str(error) or type(error).__name__).splitlines()[0]
        raise WriteFailed(f"there is too little memory to write a checkpoint ({shortage})") from error
