"""One step of training."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.transforms import normalise
from resnetkit.tasks.classifier import autocast
from resnetkit.tasks.objective import Objective
from resnetkit.training.optimisation import Optimiser
from resnetkit.training.running import Forward

Mixed = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""images and answers → images and answers"""


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
    mixed: Mixed | None = None,
    forward: Forward | None = None,
) -> StepResult:
    """Change the network by one step at rate `lr` on images `N,C,H,W` of 0–255 and what is right about them.

    Answers are classes `N` or shares of each class `N,classes`. The normalised images and their answers are `mixed`
    among themselves, if wanted. The batch is computed in `pieces`, one after the other, whose gradients add up to the
    batch's own (but each piece has its own batch norm statistics). `forward` gives what the network gives, some faster
    way.
    """
    device = next(network.parameters()).device
    network.train()
    optimiser.zero_grad()
    loss, right = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    pieces = min(pieces, max(1, len(images) // 2))  # a piece of one image has no variance for batch norm
    inputs, answers = normalise(images.to(device), preprocess), answers.to(device)
    if mixed:
        inputs, answers = mixed(inputs, answers)
    for part, wanted in zip(inputs.tensor_split(pieces), answers.tensor_split(pieces), strict=True):
        with autocast(precision, device):
            logits = (forward or network)(part)
        share = objective(logits, wanted) * (len(part) / len(images))
        torch.autograd.backward(share)
        loss += share.detach()
        right += _right(logits, wanted)
    optimiser.step(lr)
    return StepResult(loss=float(loss), right=int(right), images=len(images))


def _right(logits: Tensor, answers: Tensor) -> Tensor:
    """Images whose likeliest class is right; of a mixed image, that of the largest share; of several, any of them."""
    said = logits.argmax(dim=1)
    if answers.ndim == 1:
        return (said == answers).sum()
    largest = answers.amax(dim=1)
    return ((answers.gather(1, said[:, None])[:, 0] == largest) & (largest > 0)).sum()
