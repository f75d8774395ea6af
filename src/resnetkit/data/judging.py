"""Which images a model is judged on: the data split as its own run split it, and the part that it has not seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnetkit.data.dataset import DataSet, SplitName
from resnetkit.data.known import Progress
from resnetkit.data.opening import open_data, with_validation
from resnetkit.errors import DataError

_NAMES: Mapping[str, SplitName] = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "all": "all",
}  # fmt: skip


def open_as_trained(
    spec: str | Path, in_chans: int, training: Mapping[str, Any], progress: Progress | None = None
) -> DataSet:
    """The data, split as the model's own run split it if it is the data of that run.

    `in_chans` are the channels that the model takes; `training` is what its card says of how it came to be;
    `progress` is told of a download.
    """
    dataset = open_data(spec, channels=1 if in_chans == 1 else 3, val_share=0, progress=progress)
    trained = training.get("data", {})
    together = trained.get("together", ()) if trained_on(dataset, training) else ()
    return with_validation(dataset, trained.get("split_seed", 0), trained.get("val_share", 0.1), together)


def trained_on(dataset: DataSet, training: Mapping[str, Any]) -> bool:
    """Whether this is the data of the model's own run."""
    return bool(training.get("data", {}).get("fingerprint") == dataset.fingerprint)


def part_to_judge(dataset: DataSet, named: str | None, training: Mapping[str, Any]) -> SplitName:
    """The part that was named, else test, val, or what the model's run held out; of data it never saw, all."""
    if named is not None:
        if named not in _NAMES or _NAMES[named] not in dataset.splits:
            raise DataError(f"{dataset.name} has no part called {named!r}: it has {', '.join(dataset.splits)}")
        return _NAMES[named]
    if "test" in dataset.splits:
        return "test"
    if "val" in dataset.splits and (trained_on(dataset, training) or not dataset.val_from_train):
        return "val"
    # The model has not seen this data, so nothing needs to be kept apart.
    return "all" if "all" in dataset.splits else "train"
