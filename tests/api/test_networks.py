"""Networks as one asks for them: by name, by row, with weights of a file, for other classes and channels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import resnetkit as rk
from resnetkit.errors import CheckpointError, InvalidArgument, UnknownName


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file such as torchvision's: bare tensors of a ResNet-18 of 1000 classes."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(rk.resnet18().state_dict(), path)
    return path


def test_a_changed_row_is_a_new_network():
    row = replace(rk.architecture("resnet50"), depths=(1, 1, 2, 1), stem="conv3", stem_pool="none")
    network = rk.create_model(row, num_classes=3).eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert len(network.layer3) == 2


def test_local_weights_are_taken_whole(weights: Path):
    network = rk.create_model("resnet18", pretrained=weights)
    for key, value in torch.load(weights).items():
        assert torch.equal(network.state_dict()[key], value), key


def test_other_classes_keep_the_body_and_get_a_new_head(weights: Path):
    network = rk.create_model("resnet18", pretrained=weights, num_classes=7)
    published = torch.load(weights)
    assert torch.equal(network.layer4[1].conv2.weight, published["layer4.1.conv2.weight"])
    assert network.fc.weight.shape == (7, 512)


def test_a_grey_picture_excites_as_it_did_in_colour(weights: Path):
    grey = rk.create_model("resnet18", pretrained=weights, in_chans=1, num_classes=0).eval()
    colour = rk.create_model("resnet18", pretrained=weights, num_classes=0).eval()
    picture = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(grey(picture), colour(picture.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_features_only_gives_maps_with_the_weights_of_the_file(weights: Path):
    extract = rk.create_model("resnet18", pretrained=weights, features_only=True, out_indices=(1, 4)).eval()
    whole = rk.create_model("resnet18", pretrained=weights).eval()
    picture = torch.rand(1, 3, 64, 96)
    assert extract.feature_info.reduction() == [4, 32]
    torch.testing.assert_close(extract(picture)[-1], whole.forward_features(picture))


def test_checkpoint_path_must_fit_and_lists_what_does_not(weights: Path):
    with pytest.raises(CheckpointError, match=r"fc\.weight: the file has \(1000, 512\), the network \(7, 512\)"):
        rk.create_model("resnet18", num_classes=7, checkpoint_path=weights)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"model": "resnet35"}, UnknownName, "resnet34"),
        ({"model": "resnet50.a9_in1k", "pretrained": True}, UnknownName, "a1_in1k"),
        ({"model": "resnet20", "pretrained": True}, UnknownName, "none of resnet20"),
        ({"model": rk.architecture("resnet18"), "pretrained": True}, InvalidArgument, "pretrained=PATH"),
        ({"model": "resnet18", "out_indices": (1,)}, InvalidArgument, "features_only"),
        ({"model": "resnet18", "num_classes": -1}, InvalidArgument, "num_classes"),
    ],
)
def test_what_cannot_be_built_says_why(arguments: dict[str, object], error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        rk.create_model(**arguments)


def test_training_starts_from_the_weights_of_a_file(tmp_path: Path, digits_run: Path):
    again = rk.train("digits", model=digits_run, output=tmp_path / "run", epochs=1, lr=1e-6, precision="float32")
    before = rk.evaluate(digits_run, "digits").scores.top1
    after = rk.evaluate(again.run, "digits").scores.top1
    assert before > 0.8
    assert abs(after - before) < 0.1


def test_imagenet_folders_named_by_wordnet_ids_meet_a_model_that_knows_names():
    from resnetkit.catalog import imagenet
    from resnetkit.tasks.labels import match_labels

    folders = ("n01440764", "n03888257")
    assert match_labels(imagenet.class_names(), 1000, folders, 2).to_model == (0, imagenet.wnids().index("n03888257"))
