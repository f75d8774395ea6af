"""`resnetkit describe` shows what `rk.describe` finds."""

import json

import pytest

from resnetkit.api.describing import describe
from resnetkit.catalog.architectures import architecture
from resnetkit.cli import main
from resnetkit.errors import UnknownName


def run(capsys, *words):
    with pytest.raises(SystemExit) as left:
        main(["describe", *words])
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_a_table_within_100_columns(capsys):
    code, out, _ = run(capsys, "resnet34", "--input-size", "3,225,320", "--layers")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    for word in ("layer4", "21,797,672", "Padding 31 rows", "layer4.2.bn2"):
        assert word in out


def test_json_is_one_value(capsys):
    code, out, _ = run(capsys, "resnet20", "--num-classes", "10", "--json")
    value = json.loads(out)
    assert (code, value["name"], value["input_size"], value["params"]) == (0, "resnet20", [3, 32, 32], 269722)
    assert value["stages"][-1]["shape"] == [10]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("resnet34", "--input-size", "224"), "3,224,224"),
        (("vgg16", "--input-size", "3,8,8"), "vanishes"),
        (("resnet_34",), "resnet34"),
    ],
)
def test_one_line_says_what_is_wrong(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert message in err


def test_rows_and_names():
    assert describe(architecture("resnet18"), (3, 64, 64)) == describe("resnet18", (3, 64, 64))
    with pytest.raises(UnknownName):
        describe("resnet_18")


def test_published_weights_are_described_without_fetching_them(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    described = describe("resnetv2_50x1_bit.goog_in21k")
    assert (described.name, described.input_size, described.num_classes) == ("resnetv2_50x1_bit", (3, 224, 224), 21843)
    assert describe("resnet50.a1_in1k").input_size == (3, 288, 288)
    with pytest.raises(UnknownName, match=r"resnet50\.a1_in1k"):
        describe("resnet50.a1_in1")
