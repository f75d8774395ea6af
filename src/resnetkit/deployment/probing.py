"""Which runtime and precision is quickest here, by trying each on real pictures for a moment; remembered on disk."""

import math
import statistics
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass

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


def candidates(backend: str, precision: str) -> tuple[Choice, ...]:
    """What may be chosen from, torch first; "auto" stands for all that are installed, and for the usual precisions.

    torch.compile takes a minute to save what another runtime saves at once, so "auto" tries it only where there is
    no other.
    """
    if backend == "auto":
        others: list[Backend] = [name for name in ("openvino", "onnxruntime") if installed(name)]
        backends: list[Backend] = ["torch", *(others or ["compile"])]
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


def ever_chosen(mode: Mode, batch_size: int) -> bool:
    """Whether a choice was ever kept for such work: if not, there is no need to hash a network to look for one."""
    return any_note(_folder(mode, batch_size))


def remembered(
    opened: OpenedModel, choices: tuple[Choice, ...], *, mode: Mode, batch_size: int
) -> tuple[str, Choice | None]:
    """The name under which the choice is kept, and the choice where one was made before."""
    name = f"{_folder(mode, batch_size)}/{key(opened.network, opened.card, surroundings(), choices)}"
    note = kept_note(name) or {}
    found = Choice(note.get("backend", ""), note.get("precision", ""))
    return name, found if found in choices else None


def probe(
    opened: OpenedModel, choices: tuple[Choice, ...], pixels: Pixels, *, mode: Mode, images: int, bound: Bound
) -> tuple[Choice, Classifier] | None:
    """The quickest of the choices that stays within the bound on these pictures, ready; None: not worth the time.

    Each is timed in turn with the others, so that a busy moment of the machine slows all; the median counts. The
    first is torch: what is not at least 3 % quicker than it is not chosen.
    """
    lanes = Lanes.of(mode)
    first = build(opened, *_parts(choices[0]), lanes)
    seconds = min(_seconds(first, pixels, 1) for _ in range(2))
    if not _WORTH_A_PROBE <= seconds * images / len(pixels) < math.inf:
        return None
    exact = (first if choices[0].precision == "float32" else build(opened, "torch", "float32", lanes))(pixels)
    ready = {choices[0]: first} if bound.holds(first(pixels), exact) else {}
    for choice in choices[1:]:
        try:
            classifier = build(opened, *_parts(choice), lanes)
            if bound.holds(classifier(pixels), exact):
                ready[choice] = classifier
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
            times[choice].append(_seconds(classifier, pixels, 2 * lanes.streams))
    medians = {choice: statistics.median(values) for choice, values in times.items()}
    chosen = min(medians, key=lambda choice: medians[choice] * (0.97 if choice == choices[0] else 1))
    return chosen, ready[chosen]


def remember(name: str, choice: Choice) -> None:
    """Keep a choice for the next time."""
    keep_note(name, asdict(choice))


def _folder(mode: Mode, batch_size: int) -> str:
    return f"chosen/{mode}-{batch_size}"


def _parts(choice: Choice) -> tuple[Backend, str]:
    return choice.backend, choice.precision


def _seconds(classifier: Classifier, pixels: Pixels, batches: int) -> float:
    """Infinitely many where memory is too little."""
    several: Iterable[Pixels] = (pixels for _ in range(batches))
    began = time.perf_counter()
    done = has_memory_for(lambda: deque(classifier.stream(several), maxlen=0))
    return time.perf_counter() - began if done else math.inf
