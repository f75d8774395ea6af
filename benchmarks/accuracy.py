"""Accuracy after so many minutes of the clock: a recipe, whole command, beside a plain loop that has the same time.

    python benchmarks/accuracy.py --yardstick ../shared/baselines/cifar_loop.py --data ../shared/data/cifar10_20k.npz

The plain loop runs first, then the recipe with each seed, one after the other on all cores; each model then scores the
test part once for each way of asking. Ten minutes and three seeds take 43 minutes; run it on a quiet machine.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pairs import conditions, report

VIEWS = ("none", "flip", "shifts")


def said(*words: object) -> str:
    """What a command writes to stdout; it must end well."""
    return subprocess.run([*map(str, words)], stdout=subprocess.PIPE, text=True, check=True).stdout


def trained(data: Path, recipe: str, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    """Seconds of the whole command, epochs, and the images of the test part that are right, by way of asking."""
    command, run = (sys.executable, "-m", "resnetkit"), folder / f"seed-{seed}"
    began = time.perf_counter()
    said(*command, "train", data, "--recipe", recipe, "--minutes", minutes, "--seed", seed, "--output", run)
    seconds = time.perf_counter() - began
    scores = {view: json.loads(said(*command, "evaluate", run, data, "--tta", view, "--json")) for view in VIEWS}
    return {
        "seed": seed, "seconds": round(seconds, 1),
        "epochs": len((run / "metrics.jsonl").read_text().splitlines()),
        "images": scores["none"]["n"], "right": {view: score["right"] for view, score in scores.items()},
    }  # fmt: skip


def main() -> None:
    """Print a JSON object."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--yardstick", type=Path, required=True, help="the loop: takes SECONDS, prints `right N`")
    reader.add_argument("--data", type=Path, required=True, help="what `resnetkit train` takes, with a test part")
    reader.add_argument("--recipe", default="fast")
    reader.add_argument("--minutes", type=float, default=10)
    reader.add_argument("--seeds", type=int, default=3)
    reader.add_argument("--output", type=Path, help="write the results as JSON")
    words = reader.parse_args()

    plain = said(sys.executable, words.yardstick, 60 * words.minutes)
    print(plain, end="", file=sys.stderr, flush=True)
    right = int(re.findall(r"right (\d+)", plain)[-1])
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for seed in range(words.seeds):
            runs.append(trained(words.data, words.recipe, words.minutes, seed, Path(folder)))
            print(runs[-1], file=sys.stderr, flush=True)
    means = {view: statistics.mean(run["right"][view] / run["images"] for run in runs) for view in VIEWS}
    loop = right / runs[0]["images"]
    results = {
        **conditions(), "recipe": words.recipe, "minutes": words.minutes, "yardstick": loop, "runs": runs,
        "mean": {view: round(mean, 4) for view, mean in means.items()},
        "points_above": {view: round(100 * (mean - loop), 2) for view, mean in means.items()},
    }  # fmt: skip
    report(results, words.output)


if __name__ == "__main__":
    main()
