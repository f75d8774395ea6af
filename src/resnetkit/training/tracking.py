"""A run's numbers in the tools in which people watch and compare runs."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal, Protocol, final
from urllib.parse import urlsplit

from resnetkit.errors import MissingExtra
from resnetkit.evaluation.scoring import Measure
from resnetkit.evaluation.several import measure_of
from resnetkit.training.progress import Began, EpochEnded, Event, Listener, Remark, Stepped

Tracker = Literal["tensorboard", "wandb", "mlflow"]

_EVERY = 10  # steps between two points of a curve within an epoch
_PROJECT = "resnetkit"
_ANSWER = 3.0  # seconds in which a server must answer to be there


class Board(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name: those called step/… at a step of the run, the others at an epoch."""

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
        self._trained = False

    def __call__(self, event: Event) -> None:
        self._listener(event)
        if isinstance(event, Began):
            self.close()  # of the seed before
            self._measure = measure_of(event.plan.data.task)
            self._open(event)
        elif self._board and isinstance(event, Stepped) and event.step % _EVERY == 0:
            step = (event.epoch - 1) * event.steps + event.step
            self._log({"step/loss": event.loss, "step/images_per_second": event.images_per_second}, step)
        elif self._board and isinstance(event, EpochEnded):
            values = {
                "train/loss": event.loss, "train/top1": event.accuracy, "val/loss": event.val_loss,
                f"val/{self._measure}": event.val_score, "images_per_second": event.images_per_second,
            }  # fmt: skip
            self._log({name: value for name, value in values.items() if value is not None}, event.epoch)

    def _open(self, event: Began) -> None:
        # Before anything is trained a wrong setting is better refused.
        fresh = event.resumed_epoch is None and not self._trained
        self._trained = True
        with nullcontext() if fresh else self._costing_nothing("cannot be opened: training goes on without it"):
            self._board = _OPENERS[self._tracker](Path(event.run), event.plan.flat())

    def _log(self, values: Mapping[str, float], step: int) -> None:
        with self._costing_nothing("takes no more numbers: training goes on without it"):
            if self._board:
                self._board.log(values, step)

    def close(self) -> None:
        with self._costing_nothing("cannot be closed: its last numbers may be missing"):
            if self._board:
                self._board.close()
        self._board = None

    @contextmanager
    def _costing_nothing(self, loss: str) -> Iterator[None]:
        """Whatever it is that a stranger's service raises, it must not cost the run."""
        try:
            yield
        except Exception as error:
            self._board = None
            self._listener(Remark(f"{self._tracker} {loss} ({error})"))


@final
class _TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir runs`."""

    @staticmethod
    def check() -> None:
        with _needed("tensorboard"):
            import torch.utils.tensorboard  # noqa: F401

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in settings.items()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


@final
class _Wandb:
    """A run of Weights & Biases: online where a key and its server are there, else in the run's folder, to be synced.

    `WANDB_MODE` says otherwise, `WANDB_PROJECT` names another project than resnetkit.
    """

    @staticmethod
    def check() -> None:
        with _needed("wandb"):
            import wandb  # noqa: F401

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE") or _mode_of_wandb()
        # Its summary would repeat ours; where the run is to be found it says all the same.
        quiet = {} if "WANDB_QUIET" in os.environ else {"quiet": True}
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT), name=run.name, dir=str(run), config=dict(settings),
            mode=mode, settings=quiet,
        )  # fmt: skip
        self._run.define_metric("*", step_metric="epoch")
        self._run.define_metric("step/*", step_metric="step")

    def log(self, values: Mapping[str, float], step: int) -> None:
        axis = "step" if any(name.startswith("step/") for name in values) else "epoch"
        self._run.log({**values, axis: step})

    def close(self) -> None:
        self._run.finish()


@final
class _MLflow:
    """A run of MLflow, at the server or store that `MLFLOW_TRACKING_URI` names, else in the run's folder."""

    @staticmethod
    def check() -> None:
        with _needed("mlflow"):
            import mlflow  # noqa: F401

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # it stands by itself; a data base needs more packages
        own = (run / "mlruns").absolute().as_uri()
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or own)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._id: str = self._client.create_run(experiment, run_name=run.name).info.run_id
        parameters = [Param(key, str(value)[:500]) for key, value in settings.items()]
        for start in range(0, len(parameters), 100):  # as many as a server takes at once
            self._client.log_batch(self._id, params=parameters[start : start + 100])

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


_OPENERS: Mapping[Tracker, Any] = {"tensorboard": _TensorBoard, "wandb": _Wandb, "mlflow": _MLflow}


def _mode_of_wandb() -> Literal["online", "offline"]:
    """Online where somebody has logged in and the server answers: a run must neither ask for a key nor wait."""
    url = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host, port = url.hostname or "", url.port or (80 if url.scheme == "http" else 443)
    try:
        if not os.environ.get("WANDB_API_KEY") and netrc().authenticators(host) is None:
            return "offline"
        with socket.create_connection((host, port), timeout=_ANSWER):
            return "online"
    except (OSError, NetrcParseError):
        return "offline"


@contextmanager
def _needed(package: Tracker) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtra(
            f"--track {package} needs a package that is not here ({error}): pip install 'resnetkit[{package}]'"
        ) from error
