"""How other projects name the tensors of the same networks: rename tables, each read in both directions.

A rule is a pair of templates, theirs and ours. `{s}` stands for a number, `{s+1}` for the same number plus one, `*` for
the rest of the name; the first rule that fits is taken. A file is recognised by its `anchor`, the first convolution of
the first block as a rule; whatever stands before it (`module.`, `_orig_mod.`, `model.`) is a wrapper.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

Rule = tuple[str, str]

_PLACE = re.compile(r"\{(?P<name>\w)(?P<shift>[+-]\d+)?\}|\*")


@dataclass(frozen=True)
class Layout:
    """One project's names for one kind of network."""

    name: str
    anchor: str
    """their name of a tensor of the first block, the first convolution as a rule, without prefix"""
    rules: tuple[Rule, ...]
    prefix: str = ""
    """what they put before the body's names"""
    heads: tuple[str, ...] = ()
    """their names of the classifier, before `.weight`, without prefix"""
    classifier: str = "fc"
    """ours, where `heads` are named"""
    beside: str = ""
    """another of their names that must be there, where the anchor alone does not tell"""
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
        keys, end = set(keys), self.prefix + self.anchor
        found = {key.removesuffix(self.anchor) for key in keys if key == end or key.endswith("." + end)}
        whole = (prefix for prefix in found if not self.beside or prefix + self.beside in keys)
        return sorted(whole, key=lambda prefix: (len(prefix), prefix))


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
    ("stem.0.conv.*", "conv1.0.*"),  # mmpretrain's ResNetV1c and V1d
    ("stem.0.bn.*", "conv1.1.*"),
    ("stem.1.conv.*", "conv1.3.*"),
    ("stem.1.bn.*", "conv1.4.*"),
    ("stem.2.conv.*", "conv1.6.*"),
    ("stem.2.bn.*", "bn1.*"),
    ("stem.0.*", "conv1.0.*"),  # mmdetection and mmsegmentation count all parts of the same stem in one row
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
MMPRETRAIN_D = Layout(
    "mmpretrain ResNetV1d",
    "layer1.0.downsample.0.weight",
    (  # where the first stage has nothing to pool, they leave no place for a pool before the projection
        ("layer1.0.downsample.0.*", "layer1.0.downsample.1.*"),
        ("layer1.0.downsample.1.*", "layer1.0.downsample.2.*"),
        *_CLASSIC,
        *_SAME,
    ),
    prefix="backbone.",
    heads=_LINEAR,
    beside="layer2.0.downsample.2.weight",
)
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
TRANSFORMERS_BODY = replace(TRANSFORMERS, name="transformers (body alone)", prefix="")
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
        ("conv1_gn_*", "bn1.*"),
        *(
            (f"res{{s+1}}_{{b}}_branch{branch}_{theirs}", f"layer{{s}}.{{b}}.{ours}")
            for branch, convolution, norm in (
                ("1", "downsample.0", "downsample.1"),
                ("2a", "conv1", "bn1"),
                ("2b", "conv2", "bn2"),
                ("2c", "conv3", "bn3"),
            )
            for theirs, ours in (("w", f"{convolution}.weight"), ("bn_*", f"{norm}.*"), ("gn_*", f"{norm}.*"))
        ),
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
DENSENET_MMPRETRAIN = Layout(
    "mmpretrain densenet",
    "stages.0.block.0.conv1.weight",
    (
        ("stem.0.*", "features.conv0.*"),
        ("stem.1.*", "features.norm0.*"),
        ("stages.{s-1}.block.{b-1}.*", "features.denseblock{s}.denselayer{b}.*"),
        ("transitions.{s-1}.norm.*", "features.transition{s}.norm.*"),
        ("transitions.{s-1}.conv.*", "features.transition{s}.conv.*"),
        ("transitions.3.0.*", "features.norm5.*"),
    ),
    prefix="backbone.",
    heads=("head.fc",),
    classifier="classifier",
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
    TRANSFORMERS, TRANSFORMERS_BODY, MMPRETRAIN_D, MMPRETRAIN, SMP, CLASSIC, DETECTRON2, CAFFE2, RESNETV2, DENSENET,
    DENSENET_OLD, DENSENET_MMPRETRAIN, VGG_TIMM, VGG, NUMBERED,
)  # fmt: skip
"""in the order in which a file is tried: the most particular first"""

KERAS = re.compile(
    r"[/.]kernel(:0)?$|/(gamma|beta)(:0)?$|moving_(mean|variance)(:0)?$|_(conv|bn)/|/\.ATTRIBUTES/"
    r"|batch_normalization|conv2d(_\d+)?/|/vars/\d+$"
)
"""names that only Keras and TensorFlow give"""

_CAFFE2_PARAMETERS = {
    "s": "weight", "gamma": "weight", "b": "bias", "beta": "bias", "rm": "running_mean", "riv": "running_var",
}  # fmt: skip


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
