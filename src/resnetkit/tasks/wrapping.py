"""A classifier around another one: what it passes on unchanged."""

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.tasks.contract import Classifier


class Wrapping:
    """The part of a `Classifier` that is the wrapped one's: classes, preprocessing, description."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The other's."""
        return self._classifier.class_names

    @property
    def num_classes(self) -> int:
        """The other's."""
        return self._classifier.num_classes

    @property
    def preprocess(self) -> Preprocess:
        """The other's."""
        return self._classifier.preprocess

    @property
    def description(self) -> str:
        """The other's."""
        return self._classifier.description
