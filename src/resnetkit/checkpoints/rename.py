"""From a file's tensors to tensors under our names: layout, prefix, head, and what a layout keeps in another form."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from resnetkit.checkpoints.layouts import CAFFE2, KERAS, VGG_TIMM, Layout, caffe2_parameter, find_layout
from resnetkit.checkpoints.report import Dropped, Match
from resnetkit.errors import CheckpointError

_NORM_EPS = 1e-5
"""of torch's batch norm: a variance of 1 less this divides by exactly 1"""


@dataclass(frozen=True)
class Renamed:
    """Tensors under our names, before anybody has asked whether they make a network."""

    layout: Layout
    state: dict[str, Tensor]
    matched: tuple[Match, ...]
    dropped: tuple[Dropped, ...]
    reduced_norms: bool = False
    """whether the file's batch norms were only scale and bias"""


def rename(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Renamed | None:
    """The tensors under our names, RGB, no half precision; None for a file of no known layout.

    `metadata` is what else the file says: detectron2's converter of torchvision's weights, which stay RGB, signs so.
    Raises `CheckpointError` for names of Keras and TensorFlow.
    """
    found = find_layout(tensors)
    if found is None:
        if any(KERAS.search(key) for key in tensors):
            raise CheckpointError(
                "its names are those of Keras or TensorFlow, whose layouts are not known here: "
                "convert it to PyTorch's names first"
            )
        return None
    layout, prefix = found
    if metadata.get("__author__") == "torchvision":
        layout = replace(layout, channel_order="RGB")
    new_names, reasons = _new_names(tensors, layout, prefix)
    state = {ours: _in_our_form(tensors[theirs], ours, layout) for theirs, ours in new_names.items()}
    grouped = f"{prefix}conv1_gn_s" in tensors  # a group norm has no figures in the first place
    reduced = (
        layout.channel_order == "BGR" and "bn1.weight" in state and "bn1.running_mean" not in state and not grouped
    )
    if reduced:
        state |= _still_figures(state)
    return Renamed(
        layout,
        state,
        tuple(Match(theirs, ours, tuple(tensors[theirs].shape)) for theirs, ours in new_names.items()),
        tuple(Dropped(key, tuple(tensors[key].shape), reason) for key, reason in reasons.items()),
        reduced,
    )


def _new_names(tensors: Mapping[str, Tensor], layout: Layout, prefix: str) -> tuple[dict[str, str], dict[str, str]]:
    """Their name → ours, and their name → why it is dropped."""
    head, several = _head(tensors, layout, prefix)
    names: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for key in tensors:
        ours = layout.ours(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if layout is CAFFE2 and ours is not None:
            ours = caffe2_parameter(ours)
        if key in several:
            reasons[key] = "part of a head of several layers, which no network of the family has"
        elif key in head:
            names[key] = head[key]
        elif ours is None:
            reasons[key] = "outside of the network's body"
        elif ours in names.values():
            reasons[key] = f"a second {ours}"
        else:
            names[key] = ours
    return names, reasons


def _head(tensors: Mapping[str, Tensor], layout: Layout, prefix: str) -> tuple[dict[str, str], set[str]]:
    """The classifier's tensors → our names, or those of a head with several layers."""
    root = prefix.removesuffix(layout.prefix)
    for place in dict.fromkeys((root, prefix)):
        for name in layout.heads:
            weight = tensors.get(f"{place}{name}.weight")
            if weight is None or not _is_linear(weight):
                continue
            top = f"{place}{name.split('.')[0]}."
            members = {key for key in tensors if key.startswith(top)}
            if sum(_is_linear(tensors[key]) for key in members) > 1:
                return {}, members
            return {f"{place}{name}.{part}": f"{layout.classifier}.{part}" for part in ("weight", "bias")
                    if f"{place}{name}.{part}" in tensors}, set()  # fmt: skip
    return {}, set()


def _is_linear(tensor: Tensor) -> bool:
    return tensor.ndim == 2 or (tensor.ndim == 4 and tuple(tensor.shape[2:]) == (1, 1))


def _in_our_form(tensor: Tensor, ours: str, layout: Layout) -> Tensor:
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()  # how a file is kept small, not how a network is defined
    if ours == "fc.weight" and tensor.ndim == 4:
        return tensor.flatten(1)
    if layout is VGG_TIMM and ours.startswith("classifier.") and tensor.ndim == 4:
        return tensor.flatten(1)  # timm's hidden layers are convolutions over the last feature map
    if layout.channel_order == "BGR" and ours == "conv1.weight" and tensor.ndim == 4:
        return tensor.flip(1)
    return tensor


def _still_figures(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The running figures with which a batch norm only scales and adds."""
    norms = [key.removesuffix(".bias") for key in state if key.endswith(".bias") and not key.startswith("fc.")]
    figures: dict[str, Tensor] = {}
    for norm in norms:
        figures[f"{norm}.running_mean"] = torch.zeros_like(state[f"{norm}.bias"])
        figures[f"{norm}.running_var"] = torch.full_like(state[f"{norm}.bias"], 1 - _NORM_EPS)
    return figures
