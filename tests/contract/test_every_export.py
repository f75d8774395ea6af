"""Every row of the catalogue exports, and the file verifies.

Quick: the smallest row of each type, at half width. Slow: small rows in which every value that a row can have occurs,
and every row as it is.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import resnetkit as rk
from resnetkit.catalog.architectures import ARCHITECTURES, Dense, Vgg
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.exports.writing import export_model
from resnetkit.deployment.opening import OpenedModel
from resnetkit.models import build

FIELDS = (
    "block", "stem", "stem_pool", "shortcut", "stride_at", "attention", "antialias", "stem_antialias",
    "first_reduction", "convolution", "norm",
)  # fmt: skip
TOO_LARGE = {"resnetv2_152x4_bit", "resnetv2_101x3_bit", "resnext101_32x32d"}  # gigabytes


def values_of(row) -> set[object]:
    return {(type(row), field, getattr(row, field)) for field in FIELDS if hasattr(row, field)} | {type(row)}


def rows_with_every_value() -> list[str]:
    """Shallow rows, each chosen for the most values that those before it lack."""
    missing = set().union(*(values_of(row) for row in ARCHITECTURES.values()))
    by_depth = sorted(ARCHITECTURES, key=lambda name: sum(ARCHITECTURES[name].depths))
    chosen = []
    while missing:
        chosen.append(max(by_depth, key=lambda name: len(values_of(ARCHITECTURES[name]) & missing)))
        missing -= values_of(ARCHITECTURES[chosen[-1]])
    return chosen


def smaller(row):
    row = replace(row, depths=(2, *(1 for _ in row.depths[1:])))
    if isinstance(row, Dense):
        return row
    row = replace(row, widths=tuple(width // 2 for width in row.widths))
    return replace(row, hidden_features=64) if isinstance(row, Vgg) else row


FIRST = ("resnet10t", "wrn16_4", "densenet121", "vgg11")
QUICK = [
    pytest.param(name, True, id=name, marks=() if name in FIRST else pytest.mark.slow)
    for name in sorted({*FIRST, *rows_with_every_value()})
]
WHOLE = [
    pytest.param(name, False, id=f"{name}-whole", marks=pytest.mark.slow)
    for name in ARCHITECTURES
    if name not in TOO_LARGE
]


@pytest.mark.parametrize(("name", "small"), QUICK + WHOLE)
def test_it_exports_and_verifies(name: str, small: bool, tmp_path: Path):
    row = smaller(ARCHITECTURES[name]) if small else ARCHITECTURES[name]
    side = 64 if getattr(row, "stem", "") != "conv3" else 16
    torch.manual_seed(0)
    network = build(row, num_classes=5)
    with torch.no_grad():
        for module in network.modules():  # norms that know their inputs, and no zero gammas
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        for parameter in network.parameters():
            if not parameter.any():
                parameter.fill_(0.5)
        network.train()(torch.randn(4, 3, side, side))
    card = ModelCard(row=row, num_classes=5, preprocess=Preprocess.for_size(side, crop_share=0.875))
    opened = OpenedModel(network.eval(), card, None)
    for format_ in ("onnx", "openvino"):
        done = export_model(opened, tmp_path / format_, format_, "tensor")
        assert rk.verify(done.path).passed
