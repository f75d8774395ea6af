"""How large a batch fits into memory: estimated on a processor, whose system ends who takes too much; else tried."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from resnetkit.models import Network, describe
from resnetkit.tables import readable_bytes
from resnetkit.tasks.memory import OutOfMemory, has_memory_for
from resnetkit.tasks.objective import Objective
from resnetkit.training.learner import Learner
from resnetkit.training.plan import Plan
from resnetkit.training.planning import training_sizes
from resnetkit.training.step import add_gradients

_SHARE = 0.8  # of the free memory; others, too, want some
_PEAK = 2.0  # times what is kept for the backward pass: seen 1.6 (resnet20 at 32 px) and 0.9 (resnet50 at 224 px)
_COPIES = 4  # of the weights: gradients, two moments, and their average
# Where each version of Linux's control groups says how much memory a group may have, and has.
_CONTROL_GROUPS: Mapping[str, tuple[str, str, str]] = {
    "": ("/sys/fs/cgroup", "memory.max", "memory.current"),
    "memory": ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
_AHEAD = 4  # batches of bytes that are being prepared

Fits = Callable[[int], bool]
"""whether so many images at once fit"""


@dataclass(frozen=True)
class BatchChoice:
    """Images a step, the pieces in which they are computed, and in words what memory has to do with it."""

    images: int
    pieces: int
    reason: str


def choose_batch(network: Network, plan: Plan, most: int) -> BatchChoice:
    """The largest batch up to `most` images that fits, or the plan's own in as few pieces as fit.

    Raises OutOfMemory where not even the smallest piece does.
    """
    batch, accumulate = plan.recipe.batch_size or 1, plan.recipe.accumulate
    if plan.device.startswith("cuda"):
        images, pieces = fitting_batch(batch, most, fits_by_trial(network, plan), accumulate)
        return BatchChoice(images, pieces, f"found by trying on {plan.device}")
    each, fixed = bytes_of_training(plan)
    free = free_bytes()
    if free is None:
        return BatchChoice(batch, accumulate, "this system does not say how much memory is free")
    images, pieces = fitting_batch(batch, most, lambda n: fixed + n * each <= _SHARE * free, accumulate)
    return BatchChoice(
        images, pieces, f"{readable_bytes(free)} of memory are free and an image takes about {readable_bytes(each)}"
    )


def fitting_batch(batch: int, most: int, fits: Fits, pieces: int = 1) -> tuple[int, int]:
    """`most` images or a half, a quarter, … of them in `pieces`, if that is more than `batch`; or `batch` in more.

    >>> [fitting_batch(32, 256, lambda images: images <= memory) for memory in (300, 100, 40, 20, 5)]
    [(256, 1), (64, 1), (32, 1), (32, 2), (32, 8)]
    """
    while most > batch:
        if fits(math.ceil(most / pieces)):
            return most, pieces
        most //= 2
    while not fits(math.ceil(batch / pieces)):
        if 2 * pieces > max(1, batch // 2):
            raise OutOfMemory(
                f"there is too little memory even for {math.ceil(batch / pieces)} images at once: give a smaller "
                "--image-size or --model"
            )
        pieces *= 2
    return batch, pieces


def fits_by_trial(network: Network, plan: Plan) -> Fits:
    """Two steps on a copy, the second beside what the optimiser remembers of the first."""

    def steps(images: int) -> None:
        learner = Learner(copy.deepcopy(network), plan.recipe)
        channels, height, width = _input_size(plan)
        pixels = torch.zeros((images, channels, height, width), dtype=torch.uint8)
        for _ in range(2):
            add_gradients(
                learner.network, learner.optimiser, pixels, torch.zeros(images, dtype=torch.int64),
                preprocess=plan.preprocess, objective=Objective("cross_entropy"),
                precision="bf16" if plan.recipe.precision == "bf16" else "float32",
            )  # fmt: skip
            learner.optimiser.step(0.0)

    return lambda images: has_memory_for(lambda: steps(images))


def bytes_of_training(plan: Plan) -> tuple[int, int]:
    """What training takes for each image at once, and for itself, about: from what autograd keeps (`describe`)."""
    size = _input_size(plan)
    described = describe(plan.model.row, size, num_classes=plan.data.num_classes)
    return round(_PEAK * described.saved_bytes) + _AHEAD * math.prod(size), _COPIES * 4 * described.params


def free_bytes() -> int | None:
    """What this process can still have, by the system's free memory, its container's and its own limit, if known."""
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        yield 1024 * int(facts["MemAvailable"].split()[0])
        import resource  # not on Windows, where there is no /proc either

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            yield max(0, most - pages * resource.getpagesize())
        yield from _of_container()
    except (OSError, KeyError, ValueError, ImportError):
        return


def _of_container() -> Iterator[int]:
    """What the control groups above this process leave to it; pages of files can be had back."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers not in _CONTROL_GROUPS:
            continue
        top, limit, usage = _CONTROL_GROUPS[controllers]
        place = Path(top) / group.strip("/")
        for folder in (place, *place.parents):
            if (folder / limit).is_file():
                most = (folder / limit).read_text().strip()
                facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                used = int((folder / usage).read_text()) - int(facts.get("inactive_file", 0))
                if most != "max":
                    yield max(0, int(most) - used)


def _input_size(plan: Plan) -> tuple[int, int, int]:
    """C,H,W of the largest images of the training."""
    _, size = training_sizes(plan.recipe, plan.preprocess)[-1]
    height, width = plan.preprocess.restated(image_size=size).size
    return plan.model.in_chans, height, width
