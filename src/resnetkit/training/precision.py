"""bf16 or float32: decided by a few timed steps on a copy of the network, never by guessing."""

import copy
import time

from torch import Tensor

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Kernels, Precision, Recipe
from resnetkit.models import Network
from resnetkit.tasks.bf16 import has_native_bf16
from resnetkit.tasks.memory import in_pieces, smaller_pieces
from resnetkit.tasks.objective import Objective
from resnetkit.training.learner import Learner
from resnetkit.training.step import add_gradients


def faster_precision(
    network: Network, images: Tensor, labels: Tensor, *, preprocess: Preprocess, kernels: Kernels, seconds: float = 4.0
) -> Precision:
    """ "bf16" if a training step with it is at least 5 % faster than in float32 here, else "float32".

    The probe trains copies, so that nothing of the run changes; it takes about `seconds`, or three steps of each.
    """
    if not has_native_bf16(next(network.parameters()).device):
        return "float32"
    recipes: dict[Precision, Recipe] = {each: Recipe(precision=each, kernels=kernels) for each in ("float32", "bf16")}
    steps = {each: Probe(network, images, labels, preprocess, recipe) for each, recipe in recipes.items()}
    best: dict[Precision, float] = dict.fromkeys(steps, float("inf"))
    start, rounds = time.perf_counter(), 0
    # In turn, so that a busy moment of the machine slows both; the best counts, and the first step of each, which
    # pays for kernels being made, never is.
    while rounds < 3 or (time.perf_counter() - start < seconds and rounds < 8):
        for precision, probe in steps.items():
            best[precision] = min(best[precision], probe.seconds_of_a_step())
        rounds += 1
    return "bf16" if best["bf16"] < 0.95 * best["float32"] else "float32"


class Probe:
    """Training steps of a recipe on a copy of the network."""

    def __init__(
        self, network: Network, images: Tensor, labels: Tensor, preprocess: Preprocess, recipe: Recipe
    ) -> None:
        self._learner = Learner(copy.deepcopy(network), recipe)
        self._images, self._labels, self._preprocess, self._recipe = images, labels, preprocess, recipe
        self._pieces = recipe.accumulate

    def seconds_of_a_step(self) -> float:
        """How long one step takes, in as many pieces as the memory asks for. Raises OutOfMemory."""
        seconds, self._pieces = in_pieces(self._step, self._pieces, self._more)
        return seconds

    def _more(self, pieces: int, shortage: str) -> int:
        self._learner.optimiser.zero_grad()
        return smaller_pieces(pieces, len(self._images), shortage)

    def _step(self, pieces: int) -> float:
        began = time.perf_counter()
        add_gradients(
            self._learner.network, self._learner.optimiser, self._images, self._labels,
            preprocess=self._preprocess, objective=Objective(self._recipe.loss), precision=self._recipe.precision,
            pieces=pieces, forward=self._learner.forward,
        )  # fmt: skip
        self._learner.optimiser.step(0.0)
        self._learner.stepped(0)
        return time.perf_counter() - began
