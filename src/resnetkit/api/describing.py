"""Understand a network without running it."""

from pathlib import Path

from resnetkit.catalog.architectures import ARCHITECTURES, Architecture, architecture
from resnetkit.catalog.pretrained import pretrained_weights
from resnetkit.catalog.rows import PreActivation, Residual
from resnetkit.deployment.opening import open_model
from resnetkit.errors import InvalidArgument
from resnetkit.models import Description
from resnetkit.models import describe as describe_network


def describe(
    model: str | Path | Architecture,
    input_size: tuple[int, int, int] | None = None,
    *,
    num_classes: int | None = None,
    output_stride: int = 32,
) -> Description:
    """Stage by stage: shape, stride, receptive field, parameters, multiply-adds, memory. `print` shows it as a table.

    `model` is an architecture's name, `architecture.tag`, a row, a run folder, a model file or a foreign checkpoint.
    `input_size` is C,H,W; left out, it is what the weights were made for, 3,32,32 for networks of small images and
    else 3,224,224. For a name or a row nothing is allocated or downloaded. Raises what `open_model` raises, and
    InvalidInputSize.

    >>> describe("resnet50").macs
    4089184256
    """
    if isinstance(model, str | Path):
        weights = pretrained_weights().get(str(model))
        if Path(model).exists() or (weights is None and str(model) not in ARCHITECTURES):
            return _describe_file(model, input_size, num_classes, output_stride)
        if weights is not None:
            input_size = input_size or (3, *weights.preprocess.size)
            num_classes = weights.num_classes if num_classes is None else num_classes
        model = architecture(weights.architecture if weights else str(model))
    if input_size is None:
        small = isinstance(model, Residual | PreActivation) and model.stem == "conv3"
        input_size = (3, 32, 32) if small else (3, 224, 224)
    classes = 1000 if num_classes is None else num_classes
    return describe_network(model, input_size, num_classes=classes, output_stride=output_stride)


def _describe_file(
    path: str | Path, input_size: tuple[int, int, int] | None, num_classes: int | None, output_stride: int
) -> Description:
    card = open_model(path).card
    size = input_size or (card.in_chans, *card.preprocess.size)
    if size[0] != card.in_chans:
        raise InvalidArgument(f"{path} reads {card.in_chans} channels, not {size[0]}: begin input_size with it")
    classes = card.num_classes if num_classes is None else num_classes
    return describe_network(card.row, size, num_classes=classes, output_stride=output_stride)
