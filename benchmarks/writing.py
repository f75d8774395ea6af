"""Seconds for which writing a checkpoint stops training: the median of some, and its size.

    python benchmarks/writing.py runs resnet18 resnet50    # into a folder of the disk that matters

A checkpoint of SGD holds weights and momentum; writing it is copying, hashing, flushing to the disk and reading back.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from pairs import conditions
from resnetkit.api.networks import create_model
from resnetkit.catalog.recipe import Recipe
from resnetkit.training.learner import Learner
from resnetkit.training.snapshot import Position, save_snapshot


def seconds_of_writing(model: str, parent: Path, times: int) -> dict[str, object]:
    """Each of `times` checkpoints of `model`, and the last one's size."""
    learner = Learner(create_model(model), Recipe())
    for parameter in learner.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    learner.optimiser.step(0.1)  # momentum is there after a step
    seconds, path = [], parent
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        for step in range(times):
            start = time.perf_counter()
            path = save_snapshot(Path(folder), learner, Position(global_step=step))
            seconds.append(round(time.perf_counter() - start, 3))
        megabytes = round(path.stat().st_size / 1e6)
    return {"model": model, "megabytes": megabytes, "median": statistics.median(seconds), "seconds": seconds}


def main() -> None:
    """Print a line of JSON a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    for model in arguments.models:
        print(json.dumps({**seconds_of_writing(model, arguments.folder, arguments.times), **conditions()}), flush=True)


if __name__ == "__main__":
    main()
