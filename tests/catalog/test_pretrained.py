"""Published weights and ImageNet's names as rows."""

import subprocess
import sys

import pytest

from resnetkit.catalog.architectures import ARCHITECTURES
from resnetkit.catalog.imagenet import class_names, name_of_wnid, wnids
from resnetkit.catalog.pretrained import pretrained, pretrained_weights, tags_of
from resnetkit.errors import UnknownName


def test_every_row_is_usable() -> None:
    rows = pretrained_weights()
    assert len(rows) > 200
    for name, row in rows.items():
        assert row.name == name
        assert row.architecture in ARCHITECTURES
        assert row.hub or row.url, name
        assert row.num_classes in (1000, 0, 11821, 21843), name
        assert row.top1 is None or 0.5 < row.top1 < 0.9, name
        assert row.preprocess.resize >= row.preprocess.size[0] >= 160, name


def test_facts_of_their_sources() -> None:
    """timm 1.0.31 and torchvision 0.28."""
    row = pretrained("resnet50.a1_in1k")
    assert (row.hub, row.licence, row.num_classes) == ("timm/resnet50.a1_in1k", "apache-2.0", 1000)
    assert (row.preprocess.size, row.preprocess.resize, row.preprocess.interpolation) == ((288, 288), 288, "bicubic")
    assert (row.train_size, row.top1, row.scored_at) == (224, 0.8038, 224)
    row = pretrained("resnet50.IMAGENET1K_V2")
    assert (row.preprocess.size, row.preprocess.resize, row.preprocess.interpolation) == ((224, 224), 232, "bilinear")
    assert (row.hash_prefix, row.top1) == ("11ad3fa6", 0.80858)
    row = pretrained("resnetv2_50x1_bit.goog_in21k")
    assert (row.num_classes, row.preprocess.mean) == (21843, (0.5, 0.5, 0.5))
    assert pretrained("vgg16.IMAGENET1K_FEATURES").num_classes == 0


def test_a_bare_name_means_what_timm_means() -> None:
    assert pretrained("resnet50").name == "resnet50.a1_in1k"
    assert pretrained("densenet121").name == "densenet121.ra_in1k"
    for name in {row.architecture for row in pretrained_weights().values()}:
        assert pretrained(name).architecture == name


def test_licences_that_forbid_commerce_are_known() -> None:
    forbidding = [row.name for row in pretrained_weights().values() if row.non_commercial]
    assert len(forbidding) == 15
    assert "resnet50.fb_ssl_yfcc100m_ft_in1k" in forbidding
    assert not pretrained("resnet50.a1_in1k").non_commercial


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"resnet50\.a1_in1k"):
        pretrained("resnet50.a1_in1")
    with pytest.raises(UnknownName, match="resnet50 has a1_in1k, "):
        pretrained("resnet50.nonsense")
    with pytest.raises(UnknownName, match="did you mean"):
        pretrained("resnet5.a1_in1k")
    with pytest.raises(UnknownName, match="there is none of resnet20"):
        pretrained("resnet20")
    assert tags_of("resnet20") == ()


def test_imagenet() -> None:
    assert len(set(wnids())) == len(set(class_names())) == 1000
    assert list(wnids()) == sorted(wnids())
    assert name_of_wnid()["n02123045"] == "tabby"
    assert class_names()[281] == "tabby"


def test_nothing_is_read_before_it_is_asked_for() -> None:
    code = (
        "import sys, resnetkit.catalog.pretrained; assert 'torch' not in sys.modules; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
