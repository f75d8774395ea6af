"""Published weights as rows: where they lie, their licence, how an image is prepared for them, what they score."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from resnetkit.catalog.architectures import ARCHITECTURES, architecture
from resnetkit.catalog.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from resnetkit.errors import UnknownName


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """One set of published weights, called `architecture.tag`."""

    architecture: str
    tag: str
    hub: str | None
    """repository on the Hugging Face hub"""
    url: str | None
    """file on the authors' server"""
    hash_prefix: str | None
    """first digits of the SHA-256 of the file at `url`"""
    licence: str | None
    num_classes: int
    """0: published without a classifier"""
    preprocess: Preprocess
    """for evaluation: at the size with which the authors score"""
    train_size: int
    """side of the images during training, in pixels"""
    top1: float | None = None
    """published share of ImageNet's validation images whose class is guessed, where known"""
    top5: float | None = None
    scored_at: int | None = None
    """side of the images for those scores, in pixels"""

    @property
    def name(self) -> str:
        """`architecture.tag`."""
        return f"{self.architecture}.{self.tag}"

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return self.licence is not None and "-nc" in self.licence


@cache
def pretrained_weights() -> Mapping[str, Pretrained]:
    """Name → row of all published weights whose architecture the catalogue builds.

    >>> pretrained_weights()["resnet50.a1_in1k"].top1
    0.8038
    """
    return {name: _row(name, values) for name, values in _file()["weights"].items()
            if name.split(".")[0] in ARCHITECTURES}  # fmt: skip


def pretrained(name: str) -> Pretrained:
    """The weights called `architecture.tag`, or those that timm takes for an `architecture` alone.

    Raises `UnknownName` with the nearest real names.

    >>> pretrained("resnet50").name
    'resnet50.a1_in1k'
    """
    known = pretrained_weights()
    if name in known:
        return known[name]
    architecture_name, _, tag = name.partition(".")
    architecture(architecture_name)
    tags = tags_of(architecture_name)
    if not tags:
        raise UnknownName("published weight", name, known, f"(there is none of {architecture_name})")
    if tag:
        raise UnknownName("published weight", name, known, f"({architecture_name} has {', '.join(tags)})")
    default = _file()["defaults"].get(architecture_name)
    return known.get(f"{architecture_name}.{default}") or known[f"{architecture_name}.{tags[0]}"]


def tags_of(architecture_name: str) -> tuple[str, ...]:
    """The tags under which weights of an architecture are published.

    >>> tags_of("densenet121")
    ('ra_in1k', 'tv_in1k', 'IMAGENET1K_V1')
    """
    return tuple(row.tag for row in pretrained_weights().values() if row.architecture == architecture_name)


@cache
def _file() -> dict[str, Any]:
    text = files("resnetkit.catalog").joinpath("pretrained.json").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    return values


def _row(name: str, values: Mapping[str, Any]) -> Pretrained:
    architecture_name, tag = name.split(".", 1)
    url = values.get("url")
    digits = re.search(r"-([0-9a-f]{8,64})\.", url.rsplit("/", 1)[-1]) if url else None
    size, share = values.get("test_size", values["size"]), values.get("test_crop", values.get("crop", 1.0))
    plain = Preprocess.for_size(
        size,
        crop_share=share,
        mean=tuple(values.get("mean", IMAGENET_MEAN)),
        std=tuple(values.get("std", IMAGENET_STD)),
        interpolation=values.get("interpolation", "bicubic"),
    )
    if "resize" in values:  # torchvision says the size before the crop itself
        plain = replace(plain, resize=values["resize"])
    return Pretrained(
        architecture=architecture_name,
        tag=tag,
        hub=values.get("hub"),
        url=url,
        hash_prefix=digits[1] if digits else None,
        licence=values.get("licence"),
        num_classes=values.get("classes", 1000),
        preprocess=plain,
        train_size=values["size"],
        top1=_share(values.get("top1")),
        top5=_share(values.get("top5")),
        scored_at=values.get("scored_at"),
    )


def _share(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)
