"""Findings about single images: files that cannot be decoded, odd kinds of pictures, odd sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.decode import Channels
from resnetkit.data.findings import Examined, Finding, Level
from resnetkit.data.headers import Trait
from resnetkit.data.inspection import Fault

_LONG = 3.0  # times its width that an image may be high, or its height that it may be wide
_HUGE = 16_000_000  # pixels
_TINY = 8  # times smaller than the median


@dataclass(frozen=True)
class _Row:
    level: Level
    title: str
    consequence: str


_STOPS = "training stops before its first step and lists them; --skip-broken leaves them out"
_FAULTS: Mapping[Fault, _Row] = {
    "empty": _Row("harm", "empty files", _STOPS),
    "truncated": _Row("harm", "truncated files", _STOPS),
    "missing": _Row("harm", "files that cannot be read", _STOPS),
    "bomb": _Row("harm", "files that claim too many pixels", f"refused as possible bombs; {_STOPS}"),
    "undecodable": _Row("harm", "files that are no images, or broken ones", _STOPS),
}
_TRAITS: Mapping[Trait, _Row] = {
    "misnamed": _Row(
        "note", "another format than the suffix says", "read by their content; other programs may refuse them"
    ),
    "rotated": _Row("note", "turned or mirrored by EXIF", "put upright before anything else, as viewers do"),
    "grey": _Row("note", "grey among colour", "given three equal channels"),
    "cmyk": _Row("note", "CMYK", "converted to RGB without a colour profile, so hues may be off"),
    "deep": _Row("note", "16 bits a channel", "scaled to 8 bits"),
    "transparent": _Row("note", "with transparency", "laid on white"),
    "animated": _Row("caution", "animations", "only the first frame is seen"),
}


def file_findings(examined: Examined, fix: str | None) -> list[Finding]:
    """Faults first, then traits; `fix` is the command that writes a cleaned table."""
    return [*_faults(examined, fix), *_traits(examined)]


def _faults(examined: Examined, fix: str | None) -> list[Finding]:
    found = []
    for fault, row in _FAULTS.items():
        rows = [index for index, look in enumerate(examined.looks) if look.fault == fault]
        names = tuple(f"{examined.name(index)}: {examined.looks[index].reason}" for index in rows)
        if fault == "empty":
            names = examined.names(rows)
        found.append(_finding(fault, row, names, len(examined), fix))
    return [finding for finding in found if finding.count]


def _traits(examined: Examined) -> list[Finding]:
    found = []
    channels: Channels = examined.sources[0].channels
    for trait, row in _TRAITS.items():
        rows = [index for index, look in enumerate(examined.looks) if trait in look.traits]
        # Where all are grey there is nothing odd about it.
        if trait == "grey" and (channels == 1 or len(rows) == examined.whole.sum()):
            continue
        found.append(_finding(trait, row, examined.names(rows), len(examined), None))
    return [finding for finding in found if finding.count]


def _finding(kind: str, row: _Row, names: tuple[str, ...], of: int, remedy: str | None) -> Finding:
    return Finding(
        kind=kind, level=row.level, title=row.title, count=len(names), of=of, names=names,
        consequence=row.consequence, remedy=remedy,
    )  # fmt: skip


def size_findings(examined: Examined, preprocess: Preprocess, train: str) -> list[Finding]:
    """Sizes beside each other and beside the network's input; `train` is the command that would train."""
    rows = np.flatnonzero(examined.whole)
    if not len(rows):
        return []
    height, width = examined.sizes[rows].T
    short, long = np.minimum(height, width), np.maximum(height, width)
    wanted = min(preprocess.size)
    small = short < wanted
    fitting = int(np.percentile(short, 10)) // 32 * 32
    square = preprocess.size[0] == preprocess.size[1]
    found = [
        _of_size(
            examined, "smaller", "caution" if small.mean() > 0.1 else "note", f"smaller than the input ({wanted} px)",
            rows[small], f"enlarged to {_enlarged(preprocess)} px, which adds work but nothing to see",
            f"{train} --image-size {fitting}" if 32 <= fitting < wanted and small.mean() > 0.1 else None,
        ),
        _of_size(
            examined, "long", "caution", f"more than {_LONG:g} times as long as wide",
            rows[(long > _LONG * short) & square & (preprocess.crop_mode == "centre")],
            "scored by their middle square alone, so what lies at the ends is never seen",
            f"{train} --crop-mode pad",
        ),
        _of_size(
            examined, "huge", "note", f"larger than {_HUGE // 10**6} megapixels", rows[height * width > _HUGE],
            "decoded in full in every epoch, which may be what training waits for", f"{train} --cache",
        ),
        _of_size(
            examined, "tiny", "caution", f"less than 1/{_TINY} of the median size",
            rows[short * _TINY < np.median(short)],
            "enlarged until little is left to see: thumbnails or icons by mistake?",
        ),
    ]  # fmt: skip
    return [finding for finding in found if finding.count]


def _enlarged(preprocess: Preprocess) -> int:
    """The short side after resizing."""
    return preprocess.resize if preprocess.crop_mode == "centre" else min(preprocess.size)


def _of_size(
    examined: Examined, kind: str, level: Level, title: str, rows: np.ndarray, consequence: str,
    remedy: str | None = None,
) -> Finding:  # fmt: skip
    names = tuple(f"{examined.name(row)} ({examined.sizes[row][1]}×{examined.sizes[row][0]})" for row in rows)
    return Finding(
        kind=kind, level=level, title=title, count=len(rows), of=len(examined), names=names, consequence=consequence,
        remedy=remedy,
    )  # fmt: skip
