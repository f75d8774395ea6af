"""Inference images/s of resnetkit's runtimes beside eager float32 and the runtimes' own defaults, in alternating pairs.

    python benchmarks/inference.py --yardstick ../shared/baselines/inference_speed.py --data PICTURES
    python benchmarks/inference.py --yardstick … --data … --case 18 1 --pairs 5

The yardstick (a script that takes DEPTH BATCH and prints a line "NAME: … img/s" for each of its sides) and ours take
turns, each a process of its own on all cores; a cell is the median ratio of the pairs. `--data` is what int8 is
calibrated on. Run it on a quiet machine.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

CASES = ((50, 16), (50, 1), (18, 16), (18, 1))
PRECISIONS = ("float32", "bf16", "int8")
DEFAULTS = {"float32": ("onnxruntime float32", "openvino f32"), "bf16": ("openvino bf16",), "int8": ("openvino int8",)}
"""the yardstick's names of the runtimes' defaults at each precision"""


def own_speeds(depth: int, batch: int, data: Path | None, precisions: tuple[str, ...]) -> dict[str, float]:
    """Images/s of the quickest runtime at each precision in each mode, and the machine's matrix limits."""
    from resnetkit.api.benchmarking import benchmark
    from resnetkit.data.memory import keep_freed_memory

    keep_freed_memory()  # as the command does
    result = benchmark(
        f"resnet{depth}", data=data, batches=(batch,), backends=("openvino", "onnxruntime"), precisions=precisions,
        rounds=3,
    )  # fmt: skip
    speeds: dict[str, float] = {}
    for row in result.results:
        cell = f"{row.precision} {row.mode}"
        speeds[cell] = max(speeds.get(cell, 0.0), row.images_per_second)
        if row.limit_share:
            share = f"{row.precision} share"
            speeds[share] = max(speeds.get(share, 0.0), row.limit_share)
    return speeds


def yardstick_speeds(yardstick: Path, depth: int, batch: int) -> dict[str, float]:
    """What the yardstick prints, by the name before the colon, without network and batch."""
    done = subprocess.run(
        [sys.executable, str(yardstick), str(depth), str(batch)], capture_output=True, text=True, check=True
    )
    lines = re.findall(r"^resnet\d+ batch \d+ (.+): ([\d.]+) img/s", done.stdout, re.MULTILINE)
    return {name.removesuffix(" defaults"): float(speed) for name, speed in lines}


def compare(arguments: argparse.Namespace, case: tuple[int, int]) -> dict[str, object]:
    """Both sides in turn."""
    depth, batch = case
    ratios: dict[str, list[float]] = defaultdict(list)
    speeds: dict[str, list[float]] = defaultdict(list)
    for _ in range(arguments.pairs):
        theirs = yardstick_speeds(arguments.yardstick, depth, batch)
        command = [sys.executable, __file__, "--own", str(depth), str(batch), "--precision", *arguments.precision]
        command += ["--data", str(arguments.data)] if arguments.data else []
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        ours = json.loads(done.stdout.splitlines()[-1])
        eager = next(speed for name, speed in theirs.items() if name.startswith("eager"))
        speeds["eager"].append(eager)
        for precision in arguments.precision:
            latency, throughput = ours[f"{precision} latency"], ours[f"{precision} throughput"]
            speeds[precision].append(latency)
            speeds[f"{precision} throughput"].append(throughput)
            ratios[precision].append(max(latency, throughput) / eager)
            best = max((theirs[name] for name in DEFAULTS[precision] if name in theirs), default=0.0)
            if best:
                speeds[f"{precision} best default"].append(best)
                ratios[f"{precision} against the best default"].append(latency / best)
                ratios[f"{precision} throughput against the best default"].append(throughput / best)
            if f"{precision} share" in ours:
                ratios[f"{precision} share of the matrix limit"].append(ours[f"{precision} share"])
        last = {name: round(values[-1], 2) for name, values in ratios.items()}
        print(f"  resnet{depth} batch {batch}: {json.dumps(last)}", file=sys.stderr, flush=True)
    return {
        "network": f"resnet{depth}", "batch": batch, "pairs": arguments.pairs,
        "images_per_second": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
        "ratios": {
            name: [round(value, 2) for value in (statistics.median(values), min(values), max(values))]
            for name, values in ratios.items()
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yardstick", type=Path, default=os.environ.get("RESNETKIT_INFERENCE_YARDSTICK"))
    parser.add_argument("--data", type=Path, help="labelled pictures to calibrate int8 on")
    parser.add_argument("--case", type=int, nargs=2, metavar=("DEPTH", "BATCH"), action="append")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=None)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--own", type=int, nargs=2, metavar=("DEPTH", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.precision = arguments.precision or (PRECISIONS if arguments.data else PRECISIONS[:2])
    if arguments.own:
        print(json.dumps(own_speeds(*arguments.own, arguments.data, tuple(arguments.precision))))
        return
    if not arguments.yardstick:
        parser.error("--yardstick (or RESNETKIT_INFERENCE_YARDSTICK) names the script to measure beside")
    print(
        json.dumps({
            "date": datetime.now(UTC).date().isoformat(), "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(), "python": platform.python_version(),
            "versions": {name: metadata.version(name) for name in ("torch", "openvino", "onnxruntime")},
            "results": [compare(arguments, tuple(case)) for case in arguments.case or CASES],
        }, indent=2)
    )  # fmt: skip


if __name__ == "__main__":
    main()
