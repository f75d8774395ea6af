"""The gradients of one step of training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.transforms import normalise
from resnetkit.errors import InvalidArgument
from resnetkit.tasks.classifier import autocast
from resnetkit.tasks.objective import Objective
from resnetkit.training.optimisation import Optimiser
from resnetkit.training.processes import ALONE, Processes
from resnetkit.training.running import Forward

Mixed = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""images and answers → images and answers"""


@dataclass(frozen=True)
class StepResult:
    """Mean loss of the batch (smoothed and weighted) and how many of its images were classified rightly."""

    loss: float
    right: int
    images: int


def add_gradients(
    network: nn.Module,
    optimiser: Optimiser,
    images: Tensor,
    answers: Tensor,
    *,
    preprocess: Preprocess,
    objective: Objective,
    precision: str,
    pieces: int = 1,
    mixed: Mixed | None = None,
    forward: Forward | None = None,
    whole: int | None = None,
    processes: Processes = ALONE,
) -> StepResult:
    """Give the parameters the gradients of a batch of `whole` images, of which `images` are this process's share.

    Answers are classes `N` or shares of each class `N,classes`. The normalised images and their answers are `mixed`
    among themselves, if wanted. They are computed in `pieces`, one after the other, whose gradients add up to the
    batch's own (but each piece has its own batch norm statistics). `forward` gives what the network gives, some faster
    way.
    """
    device = next(network.parameters()).device
    whole = len(images) if whole is None else whole
    network.train()
    optimiser.zero_grad()
    loss, right = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    # The same number in every process, as their batch norms wait for each other; and a piece of one has no variance.
    pieces = min(pieces, max(1, whole // (2 * processes.count)))
    inputs, answers = normalise(images.to(device), preprocess), answers.to(device)
    if mixed and len(inputs):
        inputs, answers = mixed(inputs, answers)
    for part, wanted in zip(inputs.tensor_split(pieces), answers.tensor_split(pieces), strict=True):
        with autocast(precision, device), _batch_norm_explained():
            logits = (network if forward is None else forward)(part)
        # A process without an image of a last, small batch still takes its part in the sums.
        share = objective(logits, wanted) * (len(part) / whole) if len(part) else logits.sum()
        torch.autograd.backward(share)
        loss += share.detach()
        right += _right(logits, wanted)
    processes.add_up(optimiser.gradients())
    total_loss, total_right = processes.totals(float(loss), int(right))
    return StepResult(loss=total_loss, right=round(total_right), images=whole)


@contextmanager
def _batch_norm_explained() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InvalidArgument(
            "one image of this size leaves batch norm one value a channel, which has no variance: give a --batch-size "
            "of 2 or more, a larger --image-size, or --freeze-norm"
        ) from error


def _right(logits: Tensor, answers: Tensor) -> Tensor:
    """Images whose likeliest class is right; of a mixed image, that of the largest share; of several, any of them."""
    said = logits.argmax(dim=1)
    if answers.ndim == 1:
        return (said == answers).sum()
    largest = answers.amax(dim=1)
    return ((answers.gather(1, said[:, None])[:, 0] == largest) & (largest > 0)).sum()
