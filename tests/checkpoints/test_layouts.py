"""Other projects' names, written down from their own code, and back to ours.

Read at: mmpretrain 1.2 (models/backbones/resnet.py, seresnet.py, densenet.py, models/heads/linear_head.py),
transformers (models/resnet/modeling_resnet.py), detectron2 (modeling/backbone/resnet.py,
checkpoint/c2_model_loading.py, tools/convert-torchvision-to-d2.py).
"""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from resnetkit.catalog.rows import Architecture, Dense
from resnetkit.checkpoints.adopt import adopt
from resnetkit.checkpoints.compare import network_shapes
from resnetkit.errors import CheckpointError


def shortened(name: str) -> Architecture:
    """Two blocks in the first stage, so that one projects and one does not."""
    row = architecture(name)
    return replace(row, depths=(2, 2, 1, 1) if isinstance(row, Dense) else (2, 1, 1, 1))


def state_of(row: Architecture) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {key: torch.randn(shape) if shape else torch.tensor(7)
            for key, shape in network_shapes(row, num_classes=3, in_chans=3).items()}  # fmt: skip


MMPRETRAIN_STEM = {
    "conv1.0": "stem.0.conv", "conv1.1": "stem.0.bn", "conv1.3": "stem.1.conv", "conv1.4": "stem.1.bn",
    "conv1.6": "stem.2.conv", "bn1": "stem.2.bn",
}  # fmt: skip


def mmpretrain(key: str) -> str:
    """ResNet, ResNeXt, ResNet_CIFAR."""
    return f"head.{key}" if key.startswith("fc.") else f"backbone.{key}"


def mmpretrain_c(key: str) -> str:
    module, _, last = key.rpartition(".")
    return mmpretrain(f"{MMPRETRAIN_STEM.get(module, module)}.{last}")


def mmpretrain_d(key: str) -> str:
    """ResNetV1d: downsample is [pool, convolution, norm] where it strides, else [convolution, norm]."""
    key = key.replace("layer1.0.downsample.1.", "layer1.0.downsample.0.")
    return mmpretrain_c(key.replace("layer1.0.downsample.2.", "layer1.0.downsample.1."))


def mmdetection_c(key: str) -> str:
    """The same stem as one row of convolution, norm, activation, three times."""
    module, _, last = key.rpartition(".")
    module = {"bn1": "stem.7"}.get(module, module.replace("conv1.", "stem.") if module.startswith("conv1") else module)
    return f"backbone.{module}.{last}"


def mmpretrain_se(key: str) -> str:
    return mmpretrain(key.replace(".se.fc1.", ".se_layer.conv1.conv.").replace(".se.fc2.", ".se_layer.conv2.conv."))


def mmpretrain_dense(key: str) -> str:
    if key.startswith("classifier."):
        return key.replace("classifier", "head.fc")
    for number in (1, 2, 3, 4):
        key = key.replace(f"features.transition{number}.", f"transitions.{number - 1}.")
        for layer in (1, 2):
            key = key.replace(
                f"features.denseblock{number}.denselayer{layer}.", f"stages.{number - 1}.block.{layer - 1}."
            )
    for ours, theirs in (("conv0", "stem.0"), ("norm0", "stem.1"), ("norm5", "transitions.3.0")):
        key = key.replace(f"features.{ours}.", f"{theirs}.")
    return f"backbone.{key}"


def transformers_body(key: str) -> str:
    """ResNetModel and ResNetBackbone; ResNetForImageClassification puts `resnet.` before it."""
    part, _, last = key.rpartition(".")
    if part in ("conv1", "bn1"):
        return f"embedder.embedder.{'convolution' if part == 'conv1' else 'normalization'}.{last}"
    stage, block, *rest = part.removeprefix("layer").split(".")
    inner = {
        "downsample.0": "shortcut.convolution", "downsample.1": "shortcut.normalization",
        "conv1": "layer.0.convolution", "bn1": "layer.0.normalization",
        "conv2": "layer.1.convolution", "bn2": "layer.1.normalization",
        "conv3": "layer.2.convolution", "bn3": "layer.2.normalization",
    }[".".join(rest)]  # fmt: skip
    return f"encoder.stages.{int(stage) - 1}.layers.{block}.{inner}.{last}"


def torchvision_detection(key: str) -> str:
    return f"backbone.body.{key}"


@pytest.mark.parametrize(
    ("name", "theirs", "head"),
    [
        ("resnet18", mmpretrain, True), ("resnext50_32x4d", mmpretrain, True), ("resnet18_small", mmpretrain, True),
        ("resnet50c", mmpretrain_c, True), ("resnet50d", mmpretrain_d, True), ("resnet50c", mmdetection_c, False),
        ("seresnet50", mmpretrain_se, True), ("densenet121", mmpretrain_dense, True),
        ("resnet18", transformers_body, False), ("resnet50", transformers_body, False),
        ("resnet50", torchvision_detection, False),
    ],
)  # fmt: skip
def test_names_of_others(tmp_path: Path, name: str, theirs: Callable[[str], str], head: bool) -> None:
    row = shortened(name)
    classifier = "classifier." if isinstance(row, Dense) else "fc."
    ours = {key: value for key, value in state_of(row).items() if head or not key.startswith(classifier)}
    renamed = {theirs(key): value for key, value in ours.items()}
    assert len(renamed) == len(ours)
    renamed["neck.lateral.weight"] = torch.ones(4, 4, 1, 1)
    torch.save({"meta": {"epoch": 3}, "state_dict": renamed}, tmp_path / "theirs.pth")
    adopted = adopt(tmp_path / "theirs.pth")
    assert adopted.card.row == row
    assert adopted.card.num_classes == (3 if head else 0)
    assert [drop.theirs for drop in adopted.report.dropped] == ["neck.lateral.weight"]
    assert list(adopted.state) == list(ours)
    assert all(torch.equal(adopted.state[key], value) for key, value in ours.items())


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_timms_own_d_is_not_taken_for_mmpretrains(tmp_path: Path, prefix: str) -> None:
    ours = state_of(shortened("resnet50d"))
    torch.save({prefix + key: value for key, value in ours.items()}, tmp_path / "timm.pth")
    adopted = adopt(tmp_path / "timm.pth")
    assert all(torch.equal(adopted.state[key], value) for key, value in ours.items())


def test_a_row_of_modules_with_a_head_of_its_own(tmp_path: Path) -> None:
    """nn.Sequential(*list(resnet.children())[:-1], nn.Flatten(), nn.Sequential(nn.Linear(512, 3)))."""
    ours = {key: value for key, value in state_of(shortened("resnet18")).items() if not key.startswith("fc.")}
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    theirs = {f"{places[key.split('.')[0]]}.{key.partition('.')[2]}": value for key, value in ours.items()}
    torch.save({**theirs, "10.0.weight": torch.ones(3, 512), "10.0.bias": torch.ones(3)}, tmp_path / "row.pth")
    adopted = adopt(tmp_path / "row.pth")
    assert all(torch.equal(adopted.state[key], value) for key, value in ours.items())
    assert [drop.theirs for drop in adopted.report.dropped] == ["10.0.weight", "10.0.bias"]


def detectron2(key: str) -> str:
    """As tools/convert-torchvision-to-d2.py does it."""
    if "layer" not in key:
        key = f"stem.{key}"
    for stage in (1, 2, 3, 4):
        key = key.replace(f"layer{stage}", f"res{stage + 1}")
    for number in (1, 2, 3):
        key = key.replace(f"bn{number}", f"conv{number}.norm")
    return key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def test_a_file_that_torchvisions_weights_were_put_into_stays_rgb(tmp_path: Path) -> None:
    ours = state_of(shortened("resnet50"))
    arrays = {detectron2(key): value.numpy() for key, value in ours.items()}
    tree = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    (tmp_path / "r50.pkl").write_bytes(pickle.dumps(tree))
    adopted = adopt(tmp_path / "r50.pkl")
    assert torch.equal(adopted.state["conv1.weight"], ours["conv1.weight"])
    assert (adopted.card.preprocess.mean, adopted.card.preprocess.std) == (IMAGENET_MEAN, IMAGENET_STD)
    tree["__author__"] = "somebody else"
    (tmp_path / "r50.pkl").write_bytes(pickle.dumps(tree))
    assert torch.equal(adopt(tmp_path / "r50.pkl").state["conv1.weight"], ours["conv1.weight"].flip(1))


@pytest.mark.parametrize("norm", [("gn_s", "gn_b"), ("bn_gamma", "bn_beta")])
def test_caffe2_blobs_of_other_norms(tmp_path: Path, norm: tuple[str, str]) -> None:
    row = shortened("resnet50_gn" if norm[0] == "gn_s" else "resnet50")
    ours = {key: value for key, value in state_of(row).items() if "running" not in key and "tracked" not in key}
    names = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "downsample": "branch1"}
    blobs: dict[str, np.ndarray] = {}
    for key, value in ours.items():
        part, _, last = key.rpartition(".")
        scale = norm[0] if last == "weight" else norm[1]
        if part in ("conv1", "fc"):
            name = {"conv1": "conv1_w", "fc": f"pred_{last[0]}"}[part]
        elif part == "bn1":
            name = f"conv1_{scale}" if norm[0] == "gn_s" else f"res_conv1_{scale}"
        else:
            stage, block, layer, *place = part.removeprefix("layer").split(".")
            is_norm = layer.startswith("bn") or place == ["1"]
            branch = names[layer.replace("bn", "conv")]
            name = f"res{int(stage) + 1}_{block}_{branch}_{scale if is_norm else 'w'}"
        blobs[name] = value.numpy()
    assert len(blobs) == len(ours)
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": blobs}, 2))
    adopted = adopt(tmp_path / "R-50.pkl", stride_at="conv2")
    assert adopted.card.row == row
    assert adopted.report.dropped == ()
    for key, value in ours.items():
        assert torch.equal(adopted.state[key], value.flip(1) if key == "conv1.weight" else value), key


@pytest.mark.parametrize(
    "key",
    [
        "conv1_conv/kernel:0", "conv2_block1_1_bn/conv2_block1_1_bn/gamma:0", "bn2a_branch2a/moving_mean:0",
        "resnet_v1_50/block1/unit_1/bottleneck_v1/conv1/BatchNorm/gamma", "batch_normalization_3/beta",
        "resnet/block1/unit01/a/standardized_conv2d/kernel", "layers/conv2d_1/vars/0", "params.conv_init.kernel",
        "layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE",
    ],
)  # fmt: skip
def test_keras_and_tensorflow_are_refused_by_name(tmp_path: Path, key: str) -> None:
    torch.save({key: torch.ones(7, 7, 3, 64)}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="Keras or TensorFlow"):
        adopt(tmp_path / "file.pth")


def test_other_networks_of_pytorch_are_not_called_keras(tmp_path: Path) -> None:
    convnext = {"stem.0.weight": torch.ones(96, 3, 4, 4), "stages.0.blocks.0.gamma": torch.ones(96)}
    torch.save(convnext, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="no network of the ResNet family; the nearest is"):
        adopt(tmp_path / "file.pth")
