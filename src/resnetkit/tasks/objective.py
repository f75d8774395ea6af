"""What training makes small: the loss of logits against answers."""

from typing import Literal, final

from torch import Tensor
from torch.nn import functional as F

from resnetkit.catalog.recipe import Loss

_PRESENT = 0.2
"""share of a mixed image from which a class counts as there (Wightman et al. 2021, arXiv 2110.00476, as trained)"""


Reduction = Literal["mean", "sum"]


@final
class Objective:
    """The mean loss over a batch. Answers are class indices `N` or shares of each class `N,classes`.

    "cross_entropy": one class an image. "bce": every class is a yes or no of its own, so that an image mixed of two
    is both (Beyer et al. 2020, arXiv 2006.07159; Wightman et al. 2021, arXiv 2110.00476, section 3.2); its mean is
    over images and, as published, over classes; or their sum over `classes`, which many yes and no of a class each do
    not make smaller. `smoothing` gives that share of an answer to all classes alike. `weights` `classes` makes
    classes count more or less, whatever else is in the batch.

    >>> import torch
    >>> Objective("cross_entropy")(torch.zeros(2, 4), torch.tensor([0, 3])).item() == torch.tensor(4.0).log().item()
    True
    """

    def __init__(
        self, loss: Loss, *, smoothing: float = 0.0, weights: Tensor | None = None, classes: Reduction = "mean"
    ) -> None:
        self.loss, self.smoothing, self.weights, self.classes = loss, smoothing, weights, classes

    def __call__(self, logits: Tensor, answers: Tensor) -> Tensor:
        """A scalar, in float32 whatever the network computes in: a sum over classes loses too much in bf16."""
        logits = logits.float()
        weights = None if self.weights is None else self.weights.to(logits.device)
        if self.loss == "cross_entropy":
            # Not torch's own mean, which divides by the weights of these very images: pieces of a batch would not add
            # up to it, and of one image nothing would be left of its weight.
            each = F.cross_entropy(logits, answers, weight=weights, label_smoothing=self.smoothing, reduction="none")
            return each.mean()
        present = F.one_hot(answers, logits.shape[1]) if answers.ndim == 1 else answers > _PRESENT
        wanted = present.float() * (1 - self.smoothing) + self.smoothing / logits.shape[1]
        mean = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weights)
        return mean * logits.shape[1] if self.classes == "sum" else mean
