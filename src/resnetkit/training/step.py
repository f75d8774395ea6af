"""One step of training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.transforms import normalise
from resnetkit.tasks.classifier import autocast
from resnetkit.tasks.objective import Objective
from resnetkit.training.optimisation import Optimiser


@dataclass(frozen=True)
class StepResult:
    """Mean loss of the batch (smoothed and weighted) and how many of its images were classified rightly."""

    loss: float
    right: int
    images: int


def train_step(
    network: nn.Module,
    optimiser: Optimiser,
    images: Tensor,
    answers: Tensor,
    *,
    preprocess: Preprocess,
    objective: Objective,
    lr: float,
    precision: str,
    pieces: int = 1,
) -> StepResult:
    """Change the network by one step at rate `lr` on images `N,C,H,W` of 0–255 and what is right about them.

    Answers are classes `N` or shares of each class `N,classes`. The batch is computed in `pieces`, one after the
    other, whose gradients add up to the batch's own (but each piece has its own batch norm statistics).
    """
    device = next(network.parameters()).device
    network.train()
    optimiser.zero_grad()
    loss, right = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    pieces = min(pieces, max(1, len(images) // 2))  # a piece of one image has no variance for batch norm
    for part, wanted in zip(images.tensor_split(pieces), answers.to(device).tensor_split(pieces), strict=True):
        inputs = normalise(part.to(device), preprocess)
        with autocast(precision, device):
            logits = network(inputs)
        share = objective(logits, wanted) * (len(part) / len(images))
        torch.autograd.backward(share)
        loss += share.detach()
        right += _right(logits, wanted)
    optimiser.step(lr)
    return StepResult(loss=float(loss), right=int(right), images=len(images))


def _right(logits: Tensor, answers: Tensor) -> Tensor:
    """Images whose likeliest class is the right one; of a mixed image, the class with the largest share."""
    classes = answers if answers.ndim == 1 else answers.argmax(dim=1)
    return (logits.argmax(dim=1) == classes).sum()
