"""The questions that a network can be asked about an image."""

from typing import Literal

Task = Literal["classification", "multilabel"]
"""classification: which of the classes; multilabel: of each class, whether it is there (any number of them may be)"""
