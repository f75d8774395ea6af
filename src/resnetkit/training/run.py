"""The folder of a run: where its recipe, its metrics, its best model and its checkpoint lie."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetkit.checkpoints.atomic import remove_unfinished, write_text_atomically
from resnetkit.errors import RunError, WriteFailed


@dataclass(frozen=True)
class Run:
    """`runs/NAME/` with `recipe.yaml`, `metrics.jsonl`, `model.safetensors` (the best) and `checkpoint/`."""

    path: Path

    @property
    def recipe(self) -> Path:
        """All that is needed to run it again."""
        return self.path / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """The best model by the validation part."""
        return self.path / "model.safetensors"

    @property
    def not_finite(self) -> Path:
        """One JSON line for each step whose loss or gradient was not finite, with the images of its batch."""
        return self.path / "not_finite.jsonl"

    @property
    def begun(self) -> Path:
        """The recipe as the run began with it, by which an edited `recipe.yaml` is noticed."""
        return self.checkpoint / "recipe.yaml"

    @property
    def inventory(self) -> Path:
        """The images and classes that it learns from, by which a change of them can be named."""
        return self.checkpoint / "data.json"

    @property
    def checkpoint(self) -> Path:
        """What `--resume` continues from."""
        return self.path / "checkpoint"

    @classmethod
    def create(cls, output: str | Path | None, kind: str = "train") -> "Run":
        """A new folder: `output`, or the first free of runs/KIND, runs/KIND-2, … A folder with a run is refused."""
        if output is not None:
            run = cls(Path(output))
            if run.recipe.exists():
                raise RunError(
                    f"{run.path} already holds a run: continue it with resnetkit train --resume {run.path}, "
                    "or name another folder with --output"
                )
            _make(run.path)
            return run
        number = 1
        while True:
            run = cls(Path("runs") / (kind if number == 1 else f"{kind}-{number}"))
            _make(run.path.parent)
            try:
                run.path.mkdir()
            except FileExistsError:
                number += 1
            except OSError as error:
                raise _not_made(run.path, error) from error
            else:
                return run

    @classmethod
    def existing(cls, path: str | Path) -> "Run":
        """The run in this folder (or whose model file this is); RunError if there is none."""
        folder = Path(path)
        if folder.name == "model.safetensors":
            folder = folder.parent
        run = cls(folder)
        if not folder.is_dir():
            raise RunError(f"{path} is no run folder: give the folder that train named, such as runs/train")
        if not run.recipe.is_file():
            raise RunError(
                f"{path} holds no recipe.yaml, so it is no run (or it was stopped before it began): train anew"
            )
        return run

    def remove_unfinished(self) -> None:
        """Remove the files that were being written when a former process of this run was killed."""
        for folder in (self.path, self.checkpoint):
            remove_unfinished(folder)

    def append_metrics(self, epoch: int, values: Mapping[str, Any]) -> None:
        """Add the line of epoch `epoch` (from 0); lines of it and of later ones, left by a kill, are dropped."""
        lines = [line for line in self.read_metrics() if line["epoch"] <= epoch]
        lines.append({"epoch": epoch + 1, **values})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_text_atomically(self.metrics, text)

    def read_metrics(self) -> list[dict[str, Any]]:
        """One dictionary an epoch, oldest first; `epoch` counts from 1. RunError where the file is damaged."""
        if not self.metrics.exists():
            return []
        try:
            lines = [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]
            return sorted(lines, key=lambda line: int(line["epoch"]))
        except (ValueError, TypeError, KeyError, IsADirectoryError) as error:
            raise RunError(
                f"{self.metrics} is damaged ({error}): remove the line, or the file, which nothing but people needs"
            ) from error


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_made(path, error) from error


def _not_made(path: Path, error: OSError) -> WriteFailed:
    return WriteFailed(f"the run folder {path} cannot be made ({error.strerror}): name another place with --output")
