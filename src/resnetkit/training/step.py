"""One step of training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.transforms import normalise
from resnetkit.tasks.classifier import autocast
from resnetkit.training.optimisation import Optimiser


@dataclass(frozen=True)
class StepResult:
    """Mean loss of the batch (with label smoothing) and how many of its images were classified rightly."""

    loss: float
    right: int
    images: int


def train_step(
    network: nn.Module,
    optimiser: Optimiser,
    images: Tensor,
    labels: Tensor,
    *,
    preprocess: Preprocess,
    lr: float,
    label_smoothing: float,
    precision: str,
) -> StepResult:
    """Change the network by one step at rate `lr` on uint8 images `N,C,H,W` and their classes `N`."""
    device = next(network.parameters()).device
    labels = labels.to(device)
    inputs = normalise(images.to(device), preprocess)
    network.train()
    with autocast(precision, device):
        logits = network(inputs)
    # In float32 whatever the network computes in: a sum over classes loses too much in bf16.
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step(lr)
    right = int((logits.argmax(dim=1) == labels).sum())
    return StepResult(loss=float(loss.detach()), right=right, images=len(labels))
