"""The whole way on real data that needs no download: train, score on unseen images, predict a picture file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from resnetkit.api.evaluating import Evaluation, evaluate
from resnetkit.api.training import TrainResult, train
from resnetkit.data.opening import open_data
from resnetkit.deployment.predictor import Prediction, Predictor
from resnetkit.training.progress import Listener, nobody


@dataclass(frozen=True)
class Demonstration:
    """A trained network, its score on the held-out fifth of the digits, and its answer to one picture of it."""

    training: TrainResult
    evaluation: Evaluation
    picture: Path
    truth: str
    prediction: Prediction

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "train": self.training.to_dict(),
            "evaluate": self.evaluation.to_dict(),
            "predict": {**self.prediction.to_dict(3), "truth": self.truth},
        }


def demonstrate(
    *,
    output: str | Path | None = None,
    seed: int = 0,
    listener: Listener = nobody,
    announce: Callable[[str], None] = lambda step: None,
) -> Demonstration:
    """Train ResNet-20 on scikit-learn's handwritten digits and show what it can do with images it never saw.

    The 360 images of the test part take part neither in training nor in the choice of the best epoch.
    """
    announce("1. Train on 1,437 handwritten digits of 8×8 pixels")
    training = train("digits", model="resnet20", epochs=40, output=output, kind="demo", seed=seed, listener=listener)
    announce("2. Evaluate on 360 digits it never saw")
    evaluation = evaluate(training.run, "digits", split="test")
    announce("3. Predict a picture file")
    test = open_data("digits").split("test")
    picture, truth = training.run / "digit.png", str(test.labels[0])
    Image.fromarray(test.image(0)[..., 0]).resize((128, 128), Image.Resampling.NEAREST).save(picture)
    return Demonstration(training, evaluation, picture, truth, Predictor(training.run)(picture))
