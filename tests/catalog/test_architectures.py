"""Rows are plain data that survive JSON, and refuse what they do not know."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from resnetkit.catalog.architectures import (
    ARCHITECTURES,
    Dense,
    PreActivation,
    Residual,
    Vgg,
    architecture,
    name_of,
    row_from_dict,
    row_to_dict,
)
from resnetkit.errors import InvalidArgument, UnknownName


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_row_survives_json_and_keeps_its_name(name):
    row = row_from_dict(json.loads(json.dumps(row_to_dict(ARCHITECTURES[name]))))
    assert row == ARCHITECTURES[name]
    assert name_of(row) == name


def test_a_row_of_ones_own_has_no_name():
    assert name_of(replace(architecture("resnet50"), depths=(2, 3, 4, 2), stem="conv3")) is None


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownName, match="resnet34"):
        architecture("resnet_34")


def test_rows_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        architecture("resnet18").block = "bottleneck"
    with pytest.raises(TypeError):
        ARCHITECTURES["mine"] = architecture("resnet18")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "Transformer"}, "network 'Transformer'"),
        ({}, "network None"),
        ({"network": "Vgg", "depths": [1, 1, 2, 2, 2], "color": "red"}, r"unknown keys \['color'\]"),
        ({"network": "Residual", "block": "basic"}, "incomplete"),
        ({"network": "Residual", "block": "round", "depths": [2, 2, 2, 2]}, "none of basic, bottleneck"),
        ({"network": "Residual", "block": "basic", "depths": [2, 2]}, "2 depths but 4 widths"),
        ({"network": "Residual", "block": "basic", "depths": [2, 2, 0, 2]}, "positive whole numbers"),
        ({"network": "Residual", "block": "basic", "depths": 2}, "positive whole numbers"),
        ({"network": "Residual", "block": "basic", "depths": [2, 2, 2, 2], "groups": 32}, "belong to bottlenecks"),
        ({"network": "Residual", "block": "bottleneck", "depths": [2, 2, 2, 2], "groups": -1}, "positive whole"),
        ({"network": "Residual", "block": "bottleneck", "depths": [2, 2, 2, 2], "attention_ratio": 2}, "share between"),
        ({"network": "Residual", "block": "bottleneck", "depths": [2, 2, 2, 2], "stem": ["deep"]}, "none of conv7"),
        ({"network": "PreActivation", "block": "basic", "depths": [1, 1, 1, 1], "stem_widened": 1}, "true nor false"),
        ({"network": "Dense", "growth": 32, "depths": []}, "positive whole numbers"),
    ],
)
def test_a_row_from_a_file_is_checked(values, message):
    with pytest.raises(InvalidArgument, match=message):
        row_from_dict(values)


def test_out_channels():
    assert Residual("basic", (2, 2, 2, 2)).out_channels == (64, 128, 256, 512)
    assert PreActivation("bottleneck", (3, 4, 6, 3), width_factor=3).out_channels == (768, 1536, 3072, 6144)
    assert Dense(48, (6, 12, 36, 24), initial_features=96).out_channels == (384, 768, 2112, 2208)
    assert Vgg((1, 1, 2, 2, 2)).out_channels == (64, 128, 256, 512, 512)
