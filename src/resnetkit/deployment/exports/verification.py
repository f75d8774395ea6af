"""Whether an exported file still says what the network said. No torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.deployment.exports.opened import ExportedModel, normalised


@dataclass(frozen=True)
class GoldenCheck:
    """What the file answered to its golden picture."""

    passed: bool
    difference: float
    """largest, as a share of the largest number expected"""
    bound: float
    same_top1: bool


BOUNDS = {
    ("tensor", "float32"): 1e-4,
    ("picture", "float32"): 0.01,
    ("tensor", "int8"): 0.05,
    ("picture", "int8"): 0.05,
}
"""how far from its golden answer a file may be on another machine. In float32 a runtime rounds otherwise than torch,
which may shift pixels by a grey level while resizing; in int8 processors differ in how they sum"""


def check_golden(model: ExportedModel) -> GoldenCheck:
    """Ask the file its golden picture, as a batch of two: alone it would not show that the batch is free."""
    golden = model.card.golden
    expected = np.array(golden.output, np.float32)
    answers = model.run(golden_batch(model, copies=2))
    bound = BOUNDS[model.card.input, model.card.precision]
    if answers.shape != (2, len(expected)):
        return GoldenCheck(False, float("inf"), bound, False)
    difference = float(np.abs(answers - expected).max() / max(float(np.abs(expected).max()), 1e-30))
    said = answers.argmax(axis=1)
    # A tie is no other answer.
    same = bool((expected[said] >= expected.max() - bound * np.abs(expected).max()).all())
    return GoldenCheck(bool(difference <= bound) and same, difference, bound, same)


def golden_batch(model: ExportedModel, *, copies: int = 1) -> NDArray[Any]:
    """The golden picture as the file takes it."""
    batch = np.stack([model.card.golden.picture()] * copies)
    return batch if model.card.input == "picture" else normalised(batch, model.card.preprocess)
