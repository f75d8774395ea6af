"""Making a stranger's checkpoint ours: what it is, by names and shapes alone, and its tensors under our names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from resnetkit.catalog.architectures import Architecture, architecture, name_of
from resnetkit.catalog.preprocessing import Preprocess, usual_normalisation
from resnetkit.catalog.rows import Residual
from resnetkit.checkpoints.compare import Shape, shapes_of
from resnetkit.checkpoints.identify import Identified, identify, nearest
from resnetkit.checkpoints.layouts import CAFFE2
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.checkpoints.rename import Renamed, rename
from resnetkit.checkpoints.report import Dropped, Filled, Report
from resnetkit.checkpoints.tensors import read_tensors
from resnetkit.errors import CheckpointError, InvalidArgument

_SMALL_SIDE = 32


@dataclass(frozen=True)
class Adopted:
    """A network's state under our names, its card, and the report of how it came about."""

    state: dict[str, Tensor]
    card: ModelCard
    report: Report


def adopt(
    path: str | Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: int | None = None,
    class_names: Sequence[str] | None = None,
    stride_at: Literal["conv1", "conv2"] | None = None,
    row: Architecture | str | None = None,
) -> Adopted:
    """The network in a foreign weights file; nothing in the file is run.

    `mean` and `std` (of RGB, or of grey, from 0 to 1), `image_size` in pixels, `class_names`, `stride_at` and `row`
    state what shapes cannot say. By default: ImageNet's mean and std; 32 pixels where the stem is for small images,
    else the middle 224 of 256. Raises `UnsafeFile` for a pickle that would run code, and `CheckpointError` for a
    damaged file and for one that is no network of the family, with the nearest and the first differences.
    """
    tensors, metadata = read_tensors(path)
    stated = architecture(row) if isinstance(row, str) else row
    try:
        renamed = rename(tensors, metadata)
        if renamed is None:
            raise CheckpointError(nearest(shapes_of(tensors)))
        shapes = shapes_of(renamed.state)
        found = identify(shapes, stride_at=stride_at or _usual_stride(renamed), row=stated)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be adopted: {error}") from error
    if found.in_chans not in (1, 3):
        raise CheckpointError(
            f"{path} cannot be adopted: its network takes {found.in_chans} channels, and images here have 1 or 3"
        )
    preprocess, remarks = _preprocess(found, renamed, mean, std, image_size)
    state, filled = _complete(renamed, found.shapes)
    names = tuple(class_names) if class_names is not None else _names_in(metadata, found.num_classes)
    card = ModelCard(
        row=found.row,
        architecture=name_of(found.row),
        num_classes=found.num_classes,
        in_chans=found.in_chans,
        class_names=names,
        preprocess=preprocess,
        training={"adopted_from": Path(path).name, "layout": renamed.layout.name},
    )
    chosen = (str(metadata["resnetkit:chosen"]),) if "resnetkit:chosen" in metadata else ()
    report = Report(
        layout=renamed.layout.name,
        matched=tuple(match for match in renamed.matched if match.ours in found.shapes),
        dropped=renamed.dropped + tuple(
            Dropped(match.theirs, match.shape, "the network has no such tensor")
            for match in renamed.matched if match.ours not in found.shapes
        ),
        filled=filled,
        notes=(*chosen, *found.notes, *remarks),
    )  # fmt: skip
    return Adopted(state, card, report)


def _usual_stride(renamed: Renamed) -> Literal["conv1", "conv2"]:
    """Caffe2's bottlenecks stride where the paper did; its grouped ones, and everybody else's, at the 3×3."""
    conv2 = renamed.state.get("layer1.0.conv2.weight")
    plain = conv2 is not None and conv2.ndim == 4 and conv2.shape[0] == conv2.shape[1]
    return "conv1" if (renamed.layout is CAFFE2 or renamed.reduced_norms) and plain else "conv2"


def _complete(renamed: Renamed, shapes: Mapping[str, Shape]) -> tuple[dict[str, Tensor], tuple[Filled, ...]]:
    """The network's tensors in its own order; counters that old files lack start at zero."""
    whole = {key: renamed.state[key].contiguous() if key in renamed.state else torch.tensor(0) for key in shapes}
    given = {match.ours for match in renamed.matched}
    filled = (
        Filled(key, shape, "1" if key.endswith("var") else "0") for key, shape in shapes.items() if key not in given
    )
    return whole, tuple(filled)


def _preprocess(
    found: Identified,
    renamed: Renamed,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    image_size: int | None,
) -> tuple[Preprocess, tuple[str, ...]]:
    notes = []
    usual_mean, usual_std = usual_normalisation(found.in_chans)
    if renamed.layout.channel_order == "BGR":
        notes.append(
            "its images were blue, green, red from 0 to 255; the first convolution was turned to RGB from 0 to 1"
        )
        if not (isinstance(found.row, Residual) and found.row.groups > 1):
            usual_std = (1 / 255,) * 3  # Caffe's networks subtract the mean and divide by nothing
    if mean is None or std is None:
        source = "Caffe's" if renamed.layout.channel_order == "BGR" else "ImageNet's"
        notes.append(
            f"shapes do not tell the normalisation: {source} mean and std are taken, else state --mean and --std"
        )
    for given, what in ((mean, "mean"), (std, "std")):
        if given is not None and len(given) != found.in_chans:
            raise InvalidArgument(
                f"{what} has {len(given)} values but the network takes {found.in_chans} channels: give one a channel"
            )
    small = isinstance(found.row, Residual) and found.row.stem == "conv3"
    return Preprocess.for_size(
        image_size or (_SMALL_SIDE if small else 224),
        crop_share=1.0 if small else 0.875,
        mean=tuple(mean) if mean is not None else usual_mean,
        std=tuple(std) if std is not None else usual_std,
    ), tuple(notes)


def _names_in(metadata: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """Class names that the file itself carries, as mmpretrain's and torchvision's training scripts write them."""
    for key, value in metadata.items():
        last = key.rsplit(".", 1)[-1].lower()
        if (
            last in ("classes", "class_names", "categories", "labels")
            and isinstance(value, list)
            and len(value) == count
        ):
            return tuple(str(name) for name in value) or None
    return None
