"""The question a network answers, and the `Classifier` that the upper rooms see."""
