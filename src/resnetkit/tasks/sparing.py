"""A classifier in whatever memory there is."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import final

import numpy as np

from resnetkit.tasks.contract import Classifier, Pixels, Probabilities
from resnetkit.tasks.memory import in_pieces, is_out_of_memory, smaller_pieces
from resnetkit.tasks.wrapping import Wrapping

Shortage = Callable[[int, int], None]
"""told how many images at once were too many, and how many are computed at once from then on"""


@final
class Sparing(Wrapping):
    """A `Classifier` that computes as many images at once as fit into memory; what fitted is remembered."""

    def __init__(self, classifier: Classifier, tell: Shortage = lambda tried, most: None) -> None:
        super().__init__(classifier)
        self._tell = tell
        self._most: int | None = None

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities `N,classes` of uint8 images `N,h,w,C`. Raises OutOfMemory where not even one fits."""
        answers: list[Probabilities] = []
        done = 0
        while done < len(pixels):
            part = pixels[done : done + (self._most or len(pixels))]
            answers += self._answers(part)
            done += len(part)
        return np.concatenate(answers)

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, in order: as the other gives them, or after a shortage one by one."""
        remaining = iter(batches)
        waiting: deque[Pixels] = deque()
        drawing = False

        def drawn() -> Iterator[Pixels]:
            nonlocal drawing
            drawing = True
            for pixels in remaining:
                drawing = False
                waiting.append(pixels)
                yield pixels
                drawing = True
            drawing = False

        if self._most is None:
            try:
                for answers in self._classifier.stream(drawn()):
                    waiting.popleft()
                    yield answers
            except Exception as error:  # each runtime has an exception of its own
                # Batches that could not be made are not made by asking for fewer answers.
                if drawing or not is_out_of_memory(error):
                    raise
        while waiting:
            yield self(waiting.popleft())
        yield from map(self, remaining)

    def _answers(self, pixels: Pixels) -> list[Probabilities]:
        def more(pieces: int, shortage: str) -> int:
            return smaller_pieces(
                pieces, len(pixels), shortage, least=1, advice="use a smaller model, or one made for smaller images"
            )

        answers, pieces = in_pieces(lambda pieces: list(map(self._classifier, np.array_split(pixels, pieces))), 1, more)
        if pieces > 1:
            self._most = math.ceil(len(pixels) / pieces)
            self._tell(len(pixels), self._most)
        return answers
