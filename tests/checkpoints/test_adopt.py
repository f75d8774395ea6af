"""Strangers' files: what they are by names and shapes alone, and the same outputs after adoption."""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from resnetkit.catalog.architectures import ARCHITECTURES, architecture
from resnetkit.catalog.rows import PreActivation, Residual, Vgg
from resnetkit.checkpoints import modelfile
from resnetkit.checkpoints.adopt import adopt
from resnetkit.checkpoints.compare import check_fit, network_shapes
from resnetkit.checkpoints.identify import _shape_key, identify
from resnetkit.checkpoints.layouts import CAFFE2, DETECTRON2, LAYOUTS, NUMBERED, TRANSFORMERS, Layout
from resnetkit.checkpoints.writeback import FORMATS, write_back
from resnetkit.errors import CheckpointError, InvalidArgument
from resnetkit.models import build

GOLDEN_FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((GOLDEN_FOLDER / "layouts.json").read_text())
KNOWN = {
    "torchvision": set(json.loads((GOLDEN_FOLDER / "logits_torchvision.json").read_text())["models"]),
    "timm": set(json.loads((GOLDEN_FOLDER / "architectures_timm.json").read_text())["models"]),
}
TOO_LARGE = {"resnetv2_152x4_bit", "resnetv2_101x3_bit", "resnext101_32x32d"}  # two to four gigabytes each
FAMILY = (
    "resnet18", "resnet50", "resnet20", "resnet20_b", "resnet18_small", "resnext50_32x4d", "wide_resnet50_2",
    "resnet50d", "resnet10t", "seresnet50", "ecaresnet26t", "resnetrs50", "senet154", "resnetv2_18", "resnetv2_50",
    "resnetv2_50x1_bit", "resnetv2_50d_evos", "resnetv2_50d_frn", "densenet121", "vgg11", "vgg11_bn",
)  # fmt: skip


def filled(key: str, shape: list[int]) -> Tensor:
    """As the golden files were made: a pure function of the key."""
    numbers = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.tensor(0)
    if last == "running_var":
        return torch.from_numpy(np.asarray(1 + 0.1 * abs(numbers)))
    if last in ("running_mean", "bias"):
        return torch.from_numpy(np.asarray(0.1 * numbers))
    scale = np.sqrt(2 / np.prod(shape[1:])) * numbers if len(shape) > 1 else 0.5 + 0.1 * numbers
    return torch.from_numpy(np.asarray(scale))


def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 96, 128)))


def outputs(row: Any, state: Mapping[str, Tensor], num_classes: int, x: Tensor) -> Tensor:
    network = build(row, num_classes=num_classes).double().eval()
    network.load_state_dict(state)
    with torch.no_grad():
        return network(x)


def small(row: str = "resnet20", num_classes: int = 5) -> dict[str, Tensor]:
    return {key: filled(key, list(shape)).float() if shape else torch.tensor(0)
            for key, shape in network_shapes(
                architecture(row), num_classes=num_classes, in_chans=3).items()}  # fmt: skip


def stored(tmp_path: Path, state: Mapping[str, Tensor]) -> Path:
    path = tmp_path / "stranger.pth"
    torch.save(dict(state), path)
    return path


@pytest.mark.parametrize("project", GOLDEN)
def test_outputs_equal_those_of_their_own_code(tmp_path: Path, project: str) -> None:
    golden = GOLDEN[project]
    adopted = adopt(stored(tmp_path, {key: filled(key, shape) for key, shape in golden["state_dict"]}))
    y = outputs(adopted.card.row, adopted.state, adopted.card.num_classes, images())
    assert list(y.shape) == golden["shape"]
    torch.testing.assert_close(
        y[:, :16], torch.tensor(golden["values_0_15"], dtype=torch.float64), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(y.norm(dim=1), torch.tensor(golden["norm"], dtype=torch.float64), rtol=1e-9, atol=0)
    matched = {match.theirs for match in adopted.report.matched}
    dropped = {drop.theirs for drop in adopted.report.dropped}
    assert matched | dropped == {key for key, _ in golden["state_dict"]}
    assert not matched & dropped
    assert adopted.card.num_classes == (10 if project.startswith("transformers") else 0)


@pytest.mark.parametrize("name", [*FAMILY, *(pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES)])
def test_every_architecture_is_recognised(name: str) -> None:
    row = ARCHITECTURES[name]
    found = identify(network_shapes(row, num_classes=7, in_chans=1))
    assert (found.num_classes, found.in_chans) == (7, 1)
    assert _shape_key(found.row) == _shape_key(row)
    assert found.row == row or any(name in note for note in found.notes)


def test_a_row_of_ones_own() -> None:
    row = replace(architecture("resnet50"), depths=(2, 3, 1, 2), widths=(32, 64, 128, 256), stem="deep", attention="se")
    assert identify(network_shapes(row, num_classes=3, in_chans=3)).row == row


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.net.", "backbone.", "encoder."]
)
def test_prefixes(tmp_path: Path, prefix: str) -> None:
    state = small()
    adopted = adopt(stored(tmp_path, {prefix + key: tensor for key, tensor in state.items()}))
    assert adopted.card.architecture == "resnet20"
    assert list(adopted.state) == list(state)
    assert all(torch.equal(adopted.state[key], tensor) for key, tensor in state.items())
    assert adopted.card.num_classes == 5


@pytest.mark.parametrize("head", ["linear", "classifier", "head.fc", "fc.1", "last_linear", "head"])
def test_heads(tmp_path: Path, head: str) -> None:
    state = {key.replace("fc.", f"{head}.") if key.startswith("fc.") else key: value for key, value in small().items()}
    adopted = adopt(stored(tmp_path, state))
    assert adopted.card.num_classes == 5
    assert torch.equal(adopted.state["fc.weight"], state[f"{head}.weight"])


def test_a_head_of_two_layers_is_dropped(tmp_path: Path) -> None:
    state = {key: value for key, value in small().items() if not key.startswith("fc.")}
    state |= {"fc.0.weight": torch.ones(32, 64), "fc.2.weight": torch.ones(5, 32), "fc.2.bias": torch.ones(5)}
    adopted = adopt(stored(tmp_path, state))
    assert adopted.card.num_classes == 0
    assert {drop.theirs for drop in adopted.report.dropped} == {"fc.0.weight", "fc.2.weight", "fc.2.bias"}


@pytest.mark.parametrize("layout", [TRANSFORMERS, DETECTRON2, CAFFE2, NUMBERED], ids=lambda layout: layout.name)
def test_tables_read_both_ways(layout: Layout) -> None:
    for key in network_shapes(architecture("resnet50"), num_classes=0, in_chans=3):
        theirs = layout.theirs(key)
        assert theirs is not None
        assert theirs != key
        assert layout.ours(theirs) == key


@pytest.mark.parametrize("reduced", [True, False])
def test_blue_green_red(tmp_path: Path, reduced: bool) -> None:
    """An image as detectron2 reads it and as we do gives the same features."""
    row = replace(architecture("resnet50"), depths=(1, 1, 1, 1), stride_at="conv1")
    ours = {key: filled(key, list(shape)) for key, shape in network_shapes(row, num_classes=0, in_chans=3).items()}
    if reduced:
        ours |= {key: torch.zeros_like(value) for key, value in ours.items() if key.endswith("running_mean")}
        ours |= {key: torch.full_like(value, 1 - 1e-5) for key, value in ours.items() if key.endswith("running_var")}
    theirs = {}
    for key, value in ours.items():
        if not (reduced and "running" in key) and "tracked" not in key:
            theirs[f"backbone.bottom_up.{DETECTRON2.theirs(key)}"] = value
    adopted = adopt(stored(tmp_path, theirs), stride_at=None if reduced else "conv1")
    assert adopted.card.row == row
    rgb = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    bgr = 255 * rgb.flip(1) - torch.tensor([103.53, 116.28, 123.675], dtype=torch.float64).view(3, 1, 1)
    preprocess = adopted.card.preprocess
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (preprocess.mean, preprocess.std)
    )
    got = outputs(row, adopted.state, 0, (rgb - mean) / std)
    torch.testing.assert_close(got, outputs(row, ours, 0, bgr), rtol=1e-9, atol=1e-9)
    assert len(adopted.report.filled) == (3 if reduced else 1) * sum(key.endswith("tracked") for key in ours)


def test_caffe2_blobs(tmp_path: Path) -> None:
    row = replace(architecture("resnet50"), depths=(1, 1, 1, 1), stride_at="conv1")
    blobs: dict[str, Any] = {"fc1000_w": np.ones((10, 2048), np.float32), "fc1000_b": np.ones(10, np.float32)}
    short = {"weight": "s", "bias": "b"}
    for key, shape in network_shapes(row, num_classes=0, in_chans=3).items():
        module, _, part = key.rpartition(".")
        if "running" in part or "tracked" in part:
            continue
        named = key if len(shape) == 4 else f"{module}.{short[part]}"
        blobs[str(CAFFE2.theirs(named))] = filled(key, list(shape)).float().numpy()
    path = tmp_path / "R-50.pkl"
    path.write_bytes(__import__("pickle").dumps({"blobs": {**blobs, "conv1_w_momentum": np.ones(3)}}, 2))
    adopted = adopt(path)
    assert adopted.card.row == row
    assert adopted.card.num_classes == 10
    assert [drop.theirs for drop in adopted.report.dropped] == ["conv1_w_momentum"]
    assert torch.equal(adopted.state["conv1.weight"].flip(1), torch.from_numpy(blobs["conv1_w"]))


def test_what_a_file_cannot_say_is_stated(tmp_path: Path) -> None:
    path = stored(tmp_path, small("resnet20"))
    plain = adopt(path).card
    assert (plain.preprocess.size, plain.preprocess.resize, plain.preprocess.mean[0]) == ((32, 32), 32, 0.485)
    card = adopt(path, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), image_size=40, class_names="abcde", row="plain20").card
    assert (card.preprocess.mean, card.preprocess.std, card.preprocess.size) == ((0.1, 0.2, 0.3), (1, 1, 1), (40, 40))
    assert card.class_names == tuple("abcde")
    assert card.architecture == "plain20"
    with pytest.raises(InvalidArgument, match="mean has 1 values but the network takes 3"):
        adopt(path, mean=(0.5,))
    with pytest.raises(InvalidArgument, match="2 class names for 5 classes"):
        adopt(path, class_names=("a", "b"))
    state = {key: value[:, :1] if key == "conv1.weight" else value for key, value in small().items()}
    assert adopt(stored(tmp_path, state)).card.preprocess.channels == 1


def test_stride(tmp_path: Path) -> None:
    path = stored(tmp_path, small("resnet50", 3))
    assert any("--stride-at" in note for note in adopt(path).report.notes)
    assert adopt(path, stride_at="conv1").card.architecture == "resnet50_v1"


def test_names_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save({"state_dict": small(), "meta": {"dataset_meta": {"classes": tuple("abcde")}}}, path)
    assert adopt(path).card.class_names == tuple("abcde")


def refused(tmp_path: Path, state: Mapping[str, Tensor]) -> str:
    with pytest.raises(CheckpointError) as caught:
        adopt(stored(tmp_path, state))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_network_of_the_family(tmp_path: Path) -> None:
    says = refused(tmp_path, {"cls_token": torch.ones(1, 1, 8), "blocks.0.attn.qkv.weight": torch.ones(24, 8)})
    assert "no network of the ResNet family; the nearest is" in says
    assert "it has cls_token (1, 1, 8)" in says
    assert "it lacks conv1.weight (64, 3, 7, 7)" in says
    assert "Keras" in refused(tmp_path, {"conv1_conv/kernel:0": torch.ones(7, 7, 3, 64)})
    state = small()
    state["layer2.1.bn1.weight"] = torch.ones(7)
    assert "looks like resnet20 but does not fit it: layer2.1.bn1.weight is 7 in the file" in refused(tmp_path, state)
    del state["layer3.0.conv2.weight"]
    says = refused(tmp_path, state)
    assert "layer2.1.bn1.weight is 7 in the file and 32 in the network" in says
    assert "layer3.0.conv2.weight 64×64×3×3 is missing" in says
    state = {key: value for key, value in small().items() if not key.startswith("layer2.1.")}
    assert "no network" in refused(tmp_path, state)
    del (state := small())["layer3.2.conv1.weight"]
    assert "looks like resnet20 but does not fit it: layer3.2.conv1.weight 64×64×3×3 is missing" in refused(
        tmp_path, state
    )


def test_a_network_that_computes_more_is_another_network(tmp_path: Path) -> None:
    """An attention that the family does not know, in a body whose tensors would all be found."""
    state = {**small(), "layer1.0.ca.fc1.weight": torch.ones(2, 16, 1, 1)}
    assert "layer1.0.ca.fc1.weight 2×16×1×1 has no place" in refused(tmp_path, state)


def test_files_that_are_empty_inside(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.ones(1)[:0].reshape(0, 3, 3, 3), "layer1.0.conv1.weight": torch.ones(0)}
    assert "no network" in refused(tmp_path, state)


def test_every_mismatch_is_listed() -> None:
    ours, theirs = small("resnet20"), small("resnet20", 7)
    del theirs["bn1.bias"]
    theirs["extra"] = torch.ones(2)
    with pytest.raises(CheckpointError) as caught:
        check_fit(theirs, ours, "x.pth")
    for part in ("fc.weight is 7×64 in the file and 5×64", "fc.bias is 7", "bn1.bias 16 is missing", "extra 2 has no"):
        assert part in str(caught.value)
    check_fit(ours, ours, "x.pth")


def test_written_as_a_model_file_and_read_back(tmp_path: Path) -> None:
    adopted = adopt(stored(tmp_path, small()))
    modelfile.save(tmp_path / "model.safetensors", adopted.state, adopted.card)
    state, card = modelfile.read(tmp_path / "model.safetensors")
    assert card == adopted.card
    assert all(torch.equal(state[key], value) for key, value in adopted.state.items())
    json.dumps(adopted.report.to_dict())


FEATURES = ("block", "stem", "stem_pool", "shortcut", "attention", "antialias", "stem_antialias", "first_reduction",
            "convolution", "norm")  # fmt: skip


def one_of_each_kind() -> list[str]:
    """A name for each distinct network, block, stem, shortcut, attention, antialias and norm."""
    kinds: dict[Any, str] = {}
    for name, row in ARCHITECTURES.items():
        kinds.setdefault((type(row), *(getattr(row, feature, None) for feature in FEATURES)), name)
    return list(kinds.values())


def shortened(row: Any) -> Any:
    row = replace(row, depths=(1,) * len(row.depths))
    return replace(row, widths=(4,) * len(row.widths)) if isinstance(row, Vgg) else row


def numbered(row: Any) -> dict[str, Tensor]:
    """Every tensor with numbers of its own."""
    shapes = network_shapes(row, num_classes=3, in_chans=3)
    return {key: torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape) % 997 + place if shape
            else torch.tensor(place) for place, (key, shape) in enumerate(shapes.items())}  # fmt: skip


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize(
    ("name", "whole"),
    [
        *((name, False) for name in one_of_each_kind()),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ARCHITECTURES if name not in TOO_LARGE),
    ],
)
def test_there_and_back(tmp_path: Path, name: str, whole: bool, target: str) -> None:
    row = ARCHITECTURES[name] if whole else shortened(ARCHITECTURES[name])
    path = tmp_path / ("out.safetensors" if whole else "out.pth")
    if FORMATS[target].lacks(row):
        assert name not in KNOWN[target]
        with pytest.raises(InvalidArgument, match=f"{target} has no network with"):
            write_back(path, {}, row, target)
        return
    state = numbered(row)
    write_back(path, state, row, target)
    adopted = adopt(path)
    assert _shape_key(adopted.card.row) == _shape_key(row)
    assert list(adopted.state) == list(state)
    assert all(torch.equal(adopted.state[key], value) for key, value in state.items())
    assert adopted.report.dropped == ()
    path.unlink()  # the whole family would fill a disk


@pytest.mark.parametrize(
    ("row", "target", "says"),
    [
        (architecture("resnet20"), "torchvision", "stages"),
        (architecture("resnet18_small"), "timm", "conv3 stem"),
        (architecture("resnet50d"), "torchvision", "deep stem"),
        (architecture("resnet50_v1"), "timm", "stride at the first"),
        (architecture("resnetv2_50"), "torchvision", "pre-activation"),
        (PreActivation("basic", (2, 2, 2, 2), stem="conv3"), "timm", "conv3 stem"),
        (Residual("basic", (2, 2, 2, 2), shortcut="none"), "timm", "none shortcuts"),
    ],
)
def test_formats_that_lack_a_network(tmp_path: Path, row: Any, target: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        write_back(tmp_path / "a.pth", {}, row, target)
    assert not (tmp_path / "a.pth").exists()


def test_layout_names_are_distinct() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


@pytest.mark.parametrize(("file", "name"), [("resnet20-12fca82f.th", "resnet20"), ("resnet56-4bfd9763.th", "resnet56")])
def test_real_files(real_data: Path, file: str, name: str) -> None:
    adopted = adopt(real_data / "weights" / "cifar" / file)
    assert adopted.card.architecture == name
    assert (adopted.card.num_classes, adopted.report.dropped) == (10, ())
    assert all(filled.ours.endswith("num_batches_tracked") for filled in adopted.report.filled)


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    save_file(small(), tmp_path / "a.safetensors")
    assert adopt(tmp_path / "a.safetensors").card.architecture == "resnet20"
