"""How other projects name the tensors of the same networks: rename tables, each read in both directions.

A rule is a pair of templates, theirs and ours. `{s}` stands for a number, `{s+1}` for the same number plus one, `*` for
the rest of the name; the first rule that fits is taken. A file is recognised by its `anchor`, the first convolution of
the first block; whatever stands before it (`module.`, `_orig_mod.`, `model.`) is a wrapper.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

Rule = tuple[str, str]

_PLACE = re.compile(r"\{(?P<name>\w)(?P<shift>[+-]\d+)?\}|\*")


@dataclass(frozen=True)
class Layout:
    """One project's names for one kind of network."""

    name: str
    anchor: str
    """their name of the first block's first convolution, without prefix"""
    rules: tuple[Rule, ...]
    prefix: str = ""
    """what they put before the body's names"""
    heads: tuple[str, ...] = ()
    """their names of the classifier, before `.weight`, without prefix"""
    channel_order: str = "RGB"
    """"BGR": their images are blue, green, red, from 0 to 255"""

    def ours(self, key: str) -> str | None:
        """Our name of their `key` (without prefix); None where the network has no such tensor.

        >>> TRANSFORMERS.ours("encoder.stages.0.layers.2.layer.1.convolution.weight")
        'layer1.2.conv2.weight'
        """
        return next((new for rule in self._rules if (new := rule.forward(key)) is not None), None)

    def theirs(self, key: str) -> str | None:
        """Their name of our `key`, without prefix; None where they have none.

        >>> TRANSFORMERS.theirs("layer1.2.conv2.weight")
        'encoder.stages.0.layers.2.layer.1.convolution.weight'
        """
        return next((new for rule in self._rules if (new := rule.backward(key)) is not None), None)

    @cached_property
    def _rules(self) -> tuple["_Rule", ...]:
        return tuple(_Rule(theirs, ours) for theirs, ours in self.rules)

    def prefixes(self, keys: Iterable[str]) -> list[str]:
        """What stands before the body's names in each network that `keys` hold, the shortest first."""
        end = self.prefix + self.anchor
        found = {key.removesuffix(self.anchor) for key in keys if key == end or key.endswith("." + end)}
        return sorted(found, key=lambda prefix: (len(prefix), prefix))


@dataclass(frozen=True)
class _Rule:
    theirs: str
    ours: str

    def forward(self, key: str) -> str | None:
        return _rewrite(key, self.theirs, self.ours)

    def backward(self, key: str) -> str | None:
        return _rewrite(key, self.ours, self.theirs)


def _rewrite(key: str, template: str, target: str) -> str | None:
    found = _pattern(template).fullmatch(key)
    if found is None:
        return None
    values = found.groupdict()
    numbers = {
        place["name"]: int(values[place["name"]]) - int(place["shift"] or 0)
        for place in _PLACE.finditer(template)
        if place["name"]
    }

    def fill(place: re.Match[str]) -> str:
        if place["name"] is None:
            return values["rest"]
        return str(numbers[place["name"]] + int(place["shift"] or 0))

    return _PLACE.sub(fill, target)


_PATTERNS: dict[str, re.Pattern[str]] = {}


def _pattern(template: str) -> re.Pattern[str]:
    if template not in _PATTERNS:
        parts, end = [], 0
        for place in _PLACE.finditer(template):
            # Nine digits: no layer has a larger number, and none that a file claims makes Python count for long.
            group = f"(?P<{place['name']}>\\d{{1,9}})" if place["name"] else "(?P<rest>.+)"
            parts += [re.escape(template[end : place.start()]), group]
            end = place.end()
        _PATTERNS[template] = re.compile("".join(parts) + re.escape(template[end:]))
    return _PATTERNS[template]


# timm and torchvision share these names; the aliases are those of CIFAR repositories and of old files.
_CLASSIC: tuple[Rule, ...] = (
    ("layer{s}.{b}.shortcut.*", "layer{s}.{b}.downsample.*"),  # kuangliu/pytorch-cifar, akamaster option B
    ("stem.0.*", "conv1.0.*"),  # mmpretrain's ResNetV1c and V1d count all parts of the stem in one row
    ("stem.1.*", "conv1.1.*"),
    ("stem.3.*", "conv1.3.*"),
    ("stem.4.*", "conv1.4.*"),
    ("stem.6.*", "conv1.6.*"),
    ("stem.7.*", "bn1.*"),
    ("layer{s}.{b}.se_layer.conv1.conv.*", "layer{s}.{b}.se.fc1.*"),  # mmpretrain's SE-ResNet
    ("layer{s}.{b}.se_layer.conv2.conv.*", "layer{s}.{b}.se.fc2.*"),
    ("layer{s}.{b}.se_module.*", "layer{s}.{b}.se.*"),  # Cadene/pretrained-models.pytorch
)
_SAME: tuple[Rule, ...] = (("*", "*"),)
_LINEAR = (
    "fc",
    "linear",
    "classifier",
    "head",
    "last_linear",
    "head.fc",
    *(f"{name}.{place}" for name in ("fc", "classifier", "head") for place in range(4)),
)

CLASSIC = Layout("torchvision / timm", "layer1.0.conv1.weight", _CLASSIC + _SAME, heads=_LINEAR)
MMPRETRAIN = Layout("mmpretrain", "layer1.0.conv1.weight", _CLASSIC + _SAME, prefix="backbone.", heads=_LINEAR)
SMP = Layout("segmentation_models_pytorch", "layer1.0.conv1.weight", _SAME, prefix="encoder.")
NUMBERED = Layout(
    "numbered modules (fastai)",
    "4.0.conv1.weight",
    (("0.*", "conv1.*"), ("1.*", "bn1.*"), ("{s+3}.{b}.*", "layer{s}.{b}.*"), ("9.*", "fc.*")),
)
TRANSFORMERS = Layout(
    "transformers",
    "encoder.stages.0.layers.0.layer.0.convolution.weight",
    (
        ("embedder.embedder.convolution.*", "conv1.*"),
        ("embedder.embedder.normalization.*", "bn1.*"),
        ("encoder.stages.{s-1}.layers.{b}.shortcut.convolution.*", "layer{s}.{b}.downsample.0.*"),
        ("encoder.stages.{s-1}.layers.{b}.shortcut.normalization.*", "layer{s}.{b}.downsample.1.*"),
        ("encoder.stages.{s-1}.layers.{b}.layer.{c-1}.convolution.*", "layer{s}.{b}.conv{c}.*"),
        ("encoder.stages.{s-1}.layers.{b}.layer.{c-1}.normalization.*", "layer{s}.{b}.bn{c}.*"),
    ),
    prefix="resnet.",
    heads=("classifier.1",),
)
DETECTRON2 = Layout(
    "detectron2",
    "res2.0.conv1.weight",
    (
        ("stem.conv1.norm.*", "bn1.*"),
        ("stem.conv1.*", "conv1.*"),
        ("res{s+1}.{b}.shortcut.norm.*", "layer{s}.{b}.downsample.1.*"),
        ("res{s+1}.{b}.shortcut.*", "layer{s}.{b}.downsample.0.*"),
        ("res{s+1}.{b}.conv{c}.norm.*", "layer{s}.{b}.bn{c}.*"),
        ("res{s+1}.{b}.conv{c}.*", "layer{s}.{b}.conv{c}.*"),
    ),
    heads=("linear", "stem.fc"),
    channel_order="BGR",
)
CAFFE2 = Layout(
    "caffe2 (Detectron)",
    "res2_0_branch2a_w",
    (
        ("conv1_w", "conv1.weight"),
        ("res_conv1_bn_*", "bn1.*"),
        ("res{s+1}_{b}_branch1_w", "layer{s}.{b}.downsample.0.weight"),
        ("res{s+1}_{b}_branch1_bn_*", "layer{s}.{b}.downsample.1.*"),
        ("res{s+1}_{b}_branch2a_w", "layer{s}.{b}.conv1.weight"),
        ("res{s+1}_{b}_branch2b_w", "layer{s}.{b}.conv2.weight"),
        ("res{s+1}_{b}_branch2c_w", "layer{s}.{b}.conv3.weight"),
        ("res{s+1}_{b}_branch2a_bn_*", "layer{s}.{b}.bn1.*"),
        ("res{s+1}_{b}_branch2b_bn_*", "layer{s}.{b}.bn2.*"),
        ("res{s+1}_{b}_branch2c_bn_*", "layer{s}.{b}.bn3.*"),
        ("fc1000_w", "fc.weight"),
        ("fc1000_b", "fc.bias"),
        ("pred_w", "fc.weight"),
        ("pred_b", "fc.bias"),
    ),
    channel_order="BGR",
)
RESNETV2 = Layout("timm resnetv2", "stages.0.blocks.0.conv1.weight", _SAME)
DENSENET = Layout(
    "torchvision / timm densenet",
    "features.denseblock1.denselayer1.conv1.weight",
    _SAME,
)
DENSENET_OLD = Layout(
    "torchvision densenet of before 0.4",
    "features.denseblock1.denselayer1.conv.1.weight",
    (
        ("features.denseblock{s}.denselayer{b}.norm.{c}.*", "features.denseblock{s}.denselayer{b}.norm{c}.*"),
        ("features.denseblock{s}.denselayer{b}.conv.{c}.*", "features.denseblock{s}.denselayer{b}.conv{c}.*"),
        *_SAME,
    ),
)
VGG_TIMM = Layout(
    "timm vgg",
    "pre_logits.fc1.weight",
    (
        ("pre_logits.fc1.*", "classifier.0.*"),
        ("pre_logits.fc2.*", "classifier.3.*"),
        ("head.fc.*", "classifier.6.*"),
        *_SAME,
    ),
)
VGG = Layout("torchvision vgg", "features.0.weight", _SAME)

LAYOUTS = (
    TRANSFORMERS, MMPRETRAIN, SMP, CLASSIC, DETECTRON2, CAFFE2, RESNETV2, DENSENET, DENSENET_OLD, VGG_TIMM, VGG,
    NUMBERED,
)  # fmt: skip
"""in the order in which a file is tried: the most particular first"""

KERAS = re.compile(
    r"(kernel|gamma|beta|moving_mean|moving_variance)(:0)?$|_(conv|bn)/|/\.ATTRIBUTES/|batch_normalization|conv2d(_\d+)?/"
)
"""names that only Keras and TensorFlow give"""

_CAFFE2_PARAMETERS = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}


def find_layout(keys: Iterable[str]) -> tuple[Layout, str] | None:
    """The layout of a file and what stands before the body's names; None for names of no known layout.

    >>> find_layout(["module.encoder.layer1.0.conv1.weight"])[1]
    'module.encoder.'
    """
    keys = list(keys)
    for layout in LAYOUTS:
        if prefixes := layout.prefixes(keys):
            return layout, prefixes[0]
    return None


def caffe2_parameter(key: str) -> str:
    """Our name where caffe2 calls a norm's parts s, b, rm and riv.

    >>> caffe2_parameter("layer1.0.bn1.riv")
    'layer1.0.bn1.running_var'
    """
    module, _, parameter = key.rpartition(".")
    return f"{module}.{_CAFFE2_PARAMETERS.get(parameter, parameter)}"
