"""Which runtime and precision is quickest here, by trying each on real pictures for a moment; remembered on disk."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
import torch

from resnetkit.deployment.backends.artefacts import any_note, keep_note, kept_note, key, surroundings
from resnetkit.deployment.backends.lanes import Lanes, Mode
from resnetkit.deployment.building import BACKENDS, Backend, build, computes, installed
from resnetkit.deployment.opening import OpenedModel
from resnetkit.errors import InvalidArgument
from resnetkit.tasks.bf16 import has_native_bf16
from resnetkit.tasks.contract import Classifier, Pixels, Probabilities
from resnetkit.tasks.memory import has_memory_for

_WORTH_A_PROBE = 30.0  # seconds that torch would take for all that is to be computed; a probe takes about half of it
_ROUNDS = 5


@dataclass(frozen=True)
class Bound:
    """How far answers may be from those in float32."""

    agreement: float = 0.99
    """share of the pictures whose likeliest class is the same"""
    difference: float = 0.05
    """of any probability"""

    def holds(self, answers: Probabilities, exact: Probabilities) -> bool:
        """Whether these answers are near enough."""
        return agreement(answers, exact) >= self.agreement and bool(np.abs(answers - exact).max() <= self.difference)


def agreement(answers: Probabilities, exact: Probabilities) -> float:
    """The share of pictures on which both say the same class."""
    return float((answers.argmax(axis=1) == exact.argmax(axis=1)).mean())


@dataclass(frozen=True)
class Choice:
    """A runtime and a precision."""

    backend: Backend
    precision: str


Build = Callable[[Choice], Classifier]
EXACT = Choice("torch", "float32")
"""what answers are compared with"""


def candidates(backend: str, precision: str) -> tuple[Choice, ...]:
    """What may be chosen from, torch first; "auto" stands for all that are installed, and for the usual precisions.

    torch.compile is never among these: it takes a minute in every process, and a choice holds for later ones with less
    to do.
    """
    if backend == "auto":
        others: list[Backend] = [name for name in ("openvino", "onnxruntime") if installed(name)]
        backends: list[Backend] = ["torch", *others]
    elif backend in BACKENDS:
        backends = [backend]
    else:
        raise InvalidArgument(f"backend {backend}: choose auto, {', '.join(BACKENDS)}")
    precisions = usual_precisions() if precision == "auto" else (precision,)
    found = tuple(Choice(name, each) for each in precisions for name in backends if computes(name, each))
    return found or tuple(Choice(name, precision) for name in backends)  # building it will say what is wrong


def usual_precisions() -> tuple[str, ...]:
    """float32, and bf16 where the processor has it: elsewhere a single try of it may take minutes."""
    return ("float32", "bf16") if has_native_bf16(torch.device("cpu")) else ("float32",)


def remembered(opened: OpenedModel, choices: tuple[Choice, ...], *, mode: Mode, batch_size: int) -> Choice | None:
    """The choice that was made before for such work, if there was one."""
    if not any_note(_folder(mode, batch_size)):  # no need to hash the network to look for its own
        return None
    note = kept_note(_name(opened, choices, mode, batch_size)) or {}
    found = Choice(note.get("backend", ""), note.get("precision", ""))
    return found if found in choices else None


def remember(opened: OpenedModel, choices: tuple[Choice, ...], chosen: Choice, *, mode: Mode, batch_size: int) -> None:
    """Keep what was chosen for the next time."""
    keep_note(_name(opened, choices, mode, batch_size), asdict(chosen))


def builder(opened: OpenedModel, lanes: Lanes, say: Callable[[str], None] = lambda text: None) -> Build:
    """Builds the network as a choice says; what was built is given again."""
    return cache(lambda choice: build(opened, choice.backend, choice.precision, lanes, say))


def worth_a_probe(classifier: Classifier, images: int, batch_size: int) -> bool:
    """Whether so many images take this classifier half a minute or more.

    A single image is tried before a batch, so that little work is not kept waiting.
    """

    def seconds(size: int) -> float:
        blank = np.zeros((size, *classifier.preprocess.size, classifier.preprocess.channels), np.uint8)
        return min(_seconds(classifier, blank, 1) for _ in range(2)) * images / size

    return all(_WORTH_A_PROBE <= seconds(size) < math.inf for size in (1, min(batch_size, images)))


def probe(built: Build, choices: tuple[Choice, ...], pixels: Pixels, *, mode: Mode, bound: Bound) -> Choice:
    """The quickest of the choices that stays within the bound on these pictures.

    Each is timed in turn with the others, so that a busy moment of the machine slows all; the median counts. What is
    not at least 3 % quicker than the first is not chosen.
    """
    exact = built(EXACT)(pixels)
    ready: dict[Choice, Classifier] = {}
    for choice in choices:
        try:
            if bound.holds(built(choice)(pixels), exact):
                ready[choice] = built(choice)
        except Exception:  # each runtime has exceptions of its own; what cannot take this network is left out
            continue
    if not ready:
        raise InvalidArgument(
            f"no runtime answers within {bound.agreement:.0%} agreement and {bound.difference} of float32: "
            "use --precision float32"
        )
    times: dict[Choice, list[float]] = {choice: [] for choice in ready}
    for _ in range(_ROUNDS):
        for choice, classifier in ready.items():
            times[choice].append(_seconds(classifier, pixels, 2 * Lanes.of(mode).streams))
    medians = {choice: statistics.median(values) for choice, values in times.items()}
    return min(medians, key=lambda choice: medians[choice] * (0.97 if choice == choices[0] else 1))


def _folder(mode: Mode, batch_size: int) -> str:
    return f"chosen/{mode}-{batch_size}"


def _name(opened: OpenedModel, choices: tuple[Choice, ...], mode: Mode, batch_size: int) -> str:
    return f"{_folder(mode, batch_size)}/{key(opened.network, opened.card, surroundings(), choices)}"


def _seconds(classifier: Classifier, pixels: Pixels, batches: int) -> float:
    """Infinitely many where memory is too little."""
    several: Iterable[Pixels] = (pixels for _ in range(batches))
    began = time.perf_counter()
    done = has_memory_for(lambda: deque(classifier.stream(several), maxlen=0))
    return time.perf_counter() - began if done else math.inf
