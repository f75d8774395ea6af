"""Two programs in turn, compared by the median ratio of pairs; each prints its speed last, as `… img/s`."""

import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch


def compare(ours: Sequence[str], theirs: Sequence[str], pairs: int, *, cores: int | None = None) -> dict[str, object]:
    """Both commands, `pairs` times in turn, on the first `cores` cores (default: all): speeds and their ratios."""
    own_speeds, their_speeds = [], []
    for _ in range(pairs):
        their_speeds.append(measured(theirs, cores))
        own_speeds.append(measured(ours, cores))
        ratio = own_speeds[-1] / their_speeds[-1]
        print(f"  ours {own_speeds[-1]:.1f}, yardstick {their_speeds[-1]:.1f}, ratio {ratio:.2f}", flush=True)
    ratios = [own / their for own, their in zip(own_speeds, their_speeds, strict=True)]
    return {
        "pairs": pairs,
        "ours": round(statistics.median(own_speeds), 1), "yardstick": round(statistics.median(their_speeds), 1),
        "ratio": round(statistics.median(ratios), 2), "least": round(min(ratios), 2), "most": round(max(ratios), 2),
    }  # fmt: skip


def measured(command: Sequence[str], cores: int | None = None) -> float:
    """The images/s that a command prints last, run on the first `cores` of the cores that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, allowed)
    )
    return float(re.findall(r"([\d.]+) img/s", done.stdout)[-1])


def conditions() -> dict[str, object]:
    """When and on what it was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{name}{', avx512_bf16' if 'avx512_bf16' in flags else ''}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def report(results: Mapping[str, object], output: Path | None) -> None:
    """Print results as JSON, and write them to a file where one is named."""
    text = json.dumps(results, indent=2)
    print(text)
    if output:
        output.write_text(text + "\n")
