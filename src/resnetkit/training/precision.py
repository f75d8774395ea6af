"""bf16 or float32: decided by a few timed steps on a copy of the network, never by guessing."""

import copy
import time

import torch
from torch import Tensor, nn

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipes import Precision, Recipe
from resnetkit.training.optimisation import Optimiser
from resnetkit.training.step import train_step


def has_native_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 itself, so that trying it is worth the time."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(feature, False) for feature in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def faster_precision(
    network: nn.Module, images: Tensor, labels: Tensor, *, preprocess: Preprocess, seconds: float = 4.0
) -> Precision:
    """ "bf16" if a training step with it is at least 5 % faster than in float32 here, else "float32".

    The probe trains a copy, so that nothing of the run changes; it takes about `seconds` and at least two steps each.
    """
    if not has_native_bf16(next(network.parameters()).device):
        return "float32"
    taken = {
        precision: _seconds_a_step(network, images, labels, preprocess, precision, seconds / 2)
        for precision in ("float32", "bf16")
    }
    return "bf16" if taken["bf16"] < 0.95 * taken["float32"] else "float32"


def _seconds_a_step(
    network: nn.Module, images: Tensor, labels: Tensor, preprocess: Preprocess, precision: str, seconds: float
) -> float:
    twin = copy.deepcopy(network)
    optimiser = Optimiser(twin, Recipe())
    best, start, steps = float("inf"), time.perf_counter(), 0
    # The first step pays for kernels being made, so the best of the later ones counts.
    while steps < 2 or (time.perf_counter() - start < seconds and steps < 6):
        began = time.perf_counter()
        train_step(
            twin, optimiser, images, labels, preprocess=preprocess, lr=0.0, label_smoothing=0.0, precision=precision
        )
        steps += 1
        if steps > 1:
            best = min(best, time.perf_counter() - began)
    return best
