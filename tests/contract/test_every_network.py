"""What every network promises, whatever it is made of: one suite over the catalogue.

Quick: one row of each distinct kind, the shallowest, at half its width, with two blocks in its first stage and one in
the others (the kind is in the blocks, not in their number). Slow: every row as it is.
"""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from resnetkit.catalog.architectures import ARCHITECTURES, Dense, PreActivation, Residual, Vgg
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.exports.opened import open_exported
from resnetkit.deployment.exports.verification import check_golden
from resnetkit.deployment.exports.writing import export_model
from resnetkit.deployment.folding import fold
from resnetkit.deployment.opening import OpenedModel
from resnetkit.errors import InvalidArgument
from resnetkit.models import FeatureExtractor, build, checkpoint_blocks

KIND = (
    "block", "stem", "stem_pool", "shortcut", "stride_at", "attention", "antialias", "stem_antialias",
    "first_reduction", "convolution", "norm",
)  # fmt: skip
TOO_LARGE = {"resnetv2_152x4_bit"}  # three checks keep copies of it: over 20 GB; the other twelve were run by hand
CLASSES = 5


def kind_of(row):
    return (type(row), *(getattr(row, field, None) for field in KIND))


def one_of_each_kind():
    kinds = {}
    for name, row in sorted(ARCHITECTURES.items(), key=lambda item: sum(item[1].depths)):
        kinds.setdefault(kind_of(row), name)
    return sorted(kinds.values())


def every_row():
    quick = [pytest.param((name, True), id=name) for name in one_of_each_kind()]
    slow = [
        pytest.param((name, False), id=f"{name}-whole", marks=pytest.mark.slow)
        for name in ARCHITECTURES
        if name not in TOO_LARGE
    ]
    return quick + slow


def smaller(row):
    row = replace(row, depths=(2, *(1 for _ in row.depths[1:])))
    if isinstance(row, Dense):
        return row
    row = replace(row, widths=tuple(width // 2 for width in row.widths))
    return replace(row, hidden_features=64) if isinstance(row, Vgg) else row


def strengthened(network):
    """Zero gammas, which let no gradient through at first, are made ones."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.fill_(0.5)
    return network


@torch.no_grad()
def with_statistics(network):
    """Batch norms that know their inputs, without which a thousand sums overflow."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(images(network.row))
    for norm in norms:
        norm.momentum = 0.1
    return network


@pytest.fixture(scope="module", params=every_row())
def row(request):
    name, small = request.param
    return smaller(ARCHITECTURES[name]) if small else ARCHITECTURES[name]


@pytest.fixture(scope="module")
def network(row):
    torch.manual_seed(0)
    return with_statistics(strengthened(build(row, num_classes=CLASSES))).eval()


def images(row, high=2, wide=3, *, odd=0, channels=3, batch=2):
    """As many pixels as the last map has places, times its stride, and `odd` more."""
    stride = 32 if getattr(row, "stem", "") != "conv3" else 2 ** (len(row.depths) - (row.stem_pool == "none"))
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, high * stride + odd, wide * stride + odd, generator=generator)


def rounded_up(size, stride):
    return -(-size // stride)


@torch.no_grad()
def test_head_follows_features(network):
    features = network.forward_features(images(network.row))
    assert features.shape[:2] == (2, network.num_features)
    assert network.forward_head(features).shape == (2, CLASSES)
    torch.testing.assert_close(network(images(network.row)), network.forward_head(features), rtol=0, atol=0)
    classifier = network.get_classifier()
    assert isinstance(classifier, nn.Linear | nn.Conv2d)
    pre_logits = network.forward_head(features, pre_logits=True)
    torch.testing.assert_close(classifier(pre_logits), network(images(network.row)))


@torch.no_grad()
def test_features_have_the_stated_channels_and_strides(network):
    extractor = FeatureExtractor(network)
    x = images(network.row, 3, 5)
    height, width = x.shape[2:]
    maps = extractor(x)
    info = extractor.feature_info
    assert [features.shape[1] for features in maps] == info.channels()
    assert [tuple(features.shape[2:]) for features in maps] == [(height // s, width // s) for s in info.reduction()]
    torch.testing.assert_close(network.finish(maps[-1]), network.forward_features(x))
    assert set(extractor.state_dict()) <= set(network.state_dict())


@torch.no_grad()
def test_odd_sizes(network):
    last = FeatureExtractor(network, out_indices=(-1,))
    x = images(network.row, odd=5)
    features = last(x)[0]
    height, width = x.shape[2:]
    stride = last.feature_info.reduction()[0]
    if isinstance(network.row, Dense | Vgg):  # their pools leave a remainder out
        assert features.shape[2:] == (height // stride, width // stride)
    else:
        assert features.shape[2:] == (rounded_up(height, stride), rounded_up(width, stride))
    assert network(x).isfinite().all()


def test_gradient_reaches_every_parameter(row):
    network = strengthened(build(row, num_classes=CLASSES)).train()
    network(images(network.row)).square().sum().backward()
    assert [
        name for name, weights in network.named_parameters() if weights.grad is None or not weights.grad.any()
    ] == []


@torch.no_grad()
@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_input_channels(row, in_chans):
    network = build(row, num_classes=0, in_chans=in_chans).eval()
    assert network(images(row, channels=in_chans)).shape == (2, network.num_features)


@torch.no_grad()
def test_reset_classifier(network):
    network = copy.deepcopy(network)
    network.reset_classifier(7)
    assert (network.num_classes, network(images(network.row)).shape) == (7, (2, 7))
    network.reset_classifier(0)
    assert (network.num_classes, network(images(network.row)).shape) == (0, (2, network.num_features))
    network.reset_classifier(3)
    assert (network.num_classes, network(images(network.row)).shape) == (3, (2, 3))


@torch.no_grad()
def test_a_copy_is_equal_and_apart(network):
    twin = copy.deepcopy(network)
    torch.testing.assert_close(twin(images(network.row)), network(images(network.row)), rtol=0, atol=0)
    next(twin.parameters()).zero_()
    assert next(network.parameters()).any()


@torch.no_grad()
def test_bf16(network):
    half = copy.deepcopy(network).to(torch.bfloat16)
    logits = half(images(network.row).to(torch.bfloat16))
    assert logits.dtype == torch.bfloat16
    assert torch.cosine_similarity(logits.float().flatten(), network(images(network.row)).flatten(), dim=0) > 0.9


@torch.no_grad()
def test_folded_it_gives_the_same(network):
    exact = with_uneven_norms(copy.deepcopy(network)).double()
    before = {name: values.clone() for name, values in exact.state_dict().items()}
    folded = fold(exact)
    x = images(network.row).double()
    wanted, logits = exact(x), folded(x)
    assert (logits - wanted).norm() <= 1e-10 * wanted.norm()
    assert all(torch.equal(values, before[name]) for name, values in exact.state_dict().items())
    with Producers() as seen:
        folded(x)
    assert seen.norms_after_one_convolution == 0
    with Producers() as seen:
        exact(x)
    kept, all_norms = ([m for m in net.modules() if isinstance(m, nn.BatchNorm2d)] for net in (folded, exact))
    assert len(all_norms) - len(kept) == seen.norms_after_one_convolution


@torch.no_grad()
def test_a_convolution_that_a_shortcut_reads_too_is_not_folded():
    row = PreActivation("basic", (1,), (16,), stem="conv3", stem_width=16, stem_pool="none")
    network = with_uneven_norms(build(row, num_classes=CLASSES)).eval().double()
    folded = fold(network)
    torch.testing.assert_close(folded(images(row).double()), network(images(row).double()), rtol=1e-10, atol=1e-10)
    assert isinstance(folded.get_submodule("stages.0.blocks.0.norm1"), nn.BatchNorm2d)
    assert isinstance(folded.get_submodule("stages.0.blocks.0.norm2"), nn.Identity)


def with_uneven_norms(network):
    """Norms that no two channels share, so that none of their numbers can be left out unseen."""
    generator = torch.Generator().manual_seed(2)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                values += 0.1 * values.abs().mean() * torch.rand(values.shape, generator=generator)
    return network


class Producers(TorchFunctionMode):
    """Watches a network run and counts the batch norms whose input a convolution made for nobody else."""

    def __init__(self):
        super().__init__()
        self.made_by, self.readers, self.read_by_norm, self.alive = {}, {}, [], []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        for tensor in (arg for arg in args if isinstance(arg, torch.Tensor)):
            if getattr(func, "__name__", "") not in ("__get__", "size", "dim"):
                self.readers[id(tensor)] = self.readers.get(id(tensor), 0) + 1
        name = getattr(func, "__name__", "")
        if name == "batch_norm" and func is not torch.batch_norm:
            self.read_by_norm.append(id(args[0]))
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.alive.append(result)
            self.made_by[id(result)] = name
        return result

    @property
    def norms_after_one_convolution(self):
        return sum(self.made_by.get(read) == "conv2d" and self.readers[read] == 1 for read in self.read_by_norm)


def test_compiles_without_a_break(network):
    torch.compiler.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(images(network.row)), network(images(network.row)), rtol=0, atol=0)


@torch.no_grad()
def test_exports(network):
    exported = torch.export.export(network, (images(network.row),), strict=False).module()
    torch.testing.assert_close(exported(images(network.row)), network(images(network.row)))


@torch.no_grad()
@pytest.mark.usefixtures("operators_read_once")
def test_files_of_it_say_the_same(row, tmp_path: Path):
    """A row of the catalogue as it is, in all formats; a smaller one as ONNX, with two blocks."""
    whole = row in ARCHITECTURES.values()
    tried = row if whole else two_blocks(row)
    torch.manual_seed(0)
    network = with_statistics(strengthened(build(tried, num_classes=CLASSES))).eval()
    x = images(tried, 1, 2, batch=3)
    card = ModelCard(row=tried, num_classes=CLASSES, preprocess=Preprocess.for_size(tuple(x.shape[2:])))
    wanted = network(x).numpy()
    for format_ in ("onnx", "openvino", "torch") if whole or tried in IN_ALL_FORMATS else ("onnx",):
        model = open_exported(export_model(OpenedModel(network, card, None), tmp_path, format_, "tensor").path)
        assert check_golden(model).passed
        assert np.abs(model.run(x.numpy()) - wanted).max() <= 1e-4 * np.abs(wanted).max()


def two_blocks(row):
    """One in each of two stages: the second halves height and width, as all later ones do."""
    return replace(row, depths=(1, 1), **({"widths": row.widths[:2]} if hasattr(row, "widths") else {}))


IN_ALL_FORMATS = [
    two_blocks(smaller(ARCHITECTURES[name]))
    for name in ("seresnet18", "resnetblur18", "resnet20", "resnetv2_50x1_bit", "densenet121", "vgg11")
]


def test_blocks_can_be_computed_again(row):
    if isinstance(row, Vgg):
        with pytest.raises(InvalidArgument, match="no blocks"):
            checkpoint_blocks(build(row, num_classes=CLASSES))
        return
    torch.manual_seed(0)
    network = strengthened(build(row, num_classes=CLASSES)).train()
    sparing = copy.deepcopy(network)
    checkpoint_blocks(sparing)
    assert list(sparing.state_dict()) == list(network.state_dict())
    for one in (network, sparing):
        one(images(network.row)).square().sum().backward()
    for mine, theirs in zip(network.parameters(), sparing.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@torch.no_grad()
def test_output_stride_keeps_what_the_network_computes(row):
    """At each place of the coarse map, a dilated network gives what the strided one gave."""
    if not isinstance(row, Residual | PreActivation) or row.stem == "conv3":
        with pytest.raises(InvalidArgument, match="output_stride"):
            build(row, output_stride=8)
        return
    strided = strengthened(build(row, num_classes=CLASSES)).double().eval()
    x = images(row, 4, 6, batch=1).double()
    expected = strided.forward_features(x)
    for stride in (8, 16):
        dilated = build(row, num_classes=CLASSES, output_stride=stride).double().eval()
        dilated.load_state_dict(strided.state_dict())
        step = 32 // stride
        assert dilated.feature_info.reduction()[-1] == stride
        features = dilated.forward_features(x)
        assert features.shape[2:] == (4 * step, 6 * step)
        if "group" in row.norm or row.norm in ("evo_s0", "frn") or getattr(row, "attention", "none") != "none":
            continue  # they look at the whole map, which now has more places
        found, wanted = features[:, :, ::step, ::step], expected
        if getattr(row, "antialias", "none") == "blur":  # mirrors its borders, which lie elsewhere
            found, wanted = found[:, :, :-2, :-2], wanted[:, :, :-2, :-2]
        torch.testing.assert_close(found, wanted)


def test_drop_path(row):
    if not isinstance(row, Residual | PreActivation) or row.shortcut == "none":
        with pytest.raises(InvalidArgument, match="drop_path_rate"):
            build(row, drop_path_rate=0.2)
        return
    torch.manual_seed(0)
    network = strengthened(build(row, num_classes=CLASSES, drop_path_rate=0.5)).train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(copy.deepcopy(network)(images(row, batch=6)))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    with_statistics(network).eval()
    assert torch.equal(network(images(row)), network(images(row)))  # nothing is dropped outside training
