"""Findings about copies: the same picture in two parts, under two labels, or simply twice; and what to keep of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.duplicates import groups
from resnetkit.data.findings import Examined, Finding, Level
from resnetkit.data.sources import Indices

_PROTECTED = ("test", "val", "train", "all")
"""a part keeps its copy before those after it: what scores rest on stays as it is"""

_TOLD = 5  # copies of one picture that are named


def copy_findings(examined: Examined, fix: str | None) -> list[Finding]:
    """Each group is named by the gravest thing that is wrong with it, exact copies before near ones."""
    exact = groups(examined.alike.exact)
    near = [_apart(group, examined) for group in groups(examined.alike.near)]
    near = [group for group in near if len(group) > 1]
    train = "train" if "train" in examined.parts else "training"
    answers, parts = examined.answers, examined.part
    contradicting, rest = _divided(exact, answers)
    leaking, twice = _divided(rest, parts)
    near_leaking, near_rest = _divided(near, parts)
    near_contradicting, near_twice = _divided(near_rest, answers)
    found = [
        _finding(
            examined, "copies-across-classes", "harm", "same file under different labels", contradicting,
            "each label is learned as if the other were wrong", fix,
        ),
        _finding(
            examined, "copies-across-parts", "harm", "same file in two parts", leaking,
            f"seen in {train}, so the other part's score is too good", fix,
        ),
        _finding(
            examined, "near-copies-across-parts", "caution", "near copies in two parts", near_leaking,
            f"all but seen in {train}, so the other part's score is too good", fix,
        ),
        _finding(
            examined, "near-copies-across-classes", "caution", "near copies under different labels", near_contradicting,
            "one of the labels may be wrong: look at them",
        ),
        _finding(
            examined, "copies", "note", "same file more than once", twice,
            "counted as often as they are there; an automatic split keeps them on one side", fix,
        ),
        _finding(
            examined, "near-copies", "note", "near copies", near_twice,
            "learned a little too often; an automatic split keeps them on one side",
        ),
    ]  # fmt: skip
    return [finding for finding in found if finding.count]


def superfluous(examined: Examined) -> NDArray[np.bool_]:
    """Which images a cleaned table leaves out because of copies.

    Exact copies under different labels go altogether, as nobody knows which is right. Of other exact copies one stays,
    and of near copies those in the most protected part: test before val before train.
    """
    out = np.zeros(len(examined), np.bool_)
    rank = np.array([_PROTECTED.index(part) for part in examined.parts])[examined.part]
    for group in groups(examined.alike.exact):
        if len(np.unique(examined.answers[group])) > 1:
            out[group] = True
        else:
            out[group] = True
            out[group[np.argmin(rank[group])]] = False
    for group in groups(examined.alike.near):
        kept = group[~out[group]]
        if len(kept):
            out[kept[rank[kept] > rank[kept].min()]] = True
    return out


def _apart(group: Indices, examined: Examined) -> Indices:
    """Of a group of near copies one of each exact copies', so that nothing is told twice."""
    return group[np.sort(np.unique(examined.alike.exact[group], return_index=True)[1])]


def _divided(found: Sequence[Indices], by: Indices) -> tuple[list[Indices], list[Indices]]:
    """Groups whose members differ in `by`, and those whose do not."""
    differ = [len(np.unique(by[group])) > 1 for group in found]
    return (
        [group for group, yes in zip(found, differ, strict=True) if yes],
        [group for group, yes in zip(found, differ, strict=True) if not yes],
    )


def _finding(
    examined: Examined, kind: str, level: Level, title: str, found: Sequence[Indices], consequence: str,
    remedy: str | None = None,
) -> Finding:  # fmt: skip
    """Counts the images that have a copy."""
    copies = tuple(examined.names(group) for group in found)
    return Finding(
        kind=kind, level=level, title=title, count=sum(map(len, found)), of=len(examined),
        names=tuple(map(_equation, copies)), groups=copies, consequence=consequence, remedy=remedy,
    )  # fmt: skip


def _equation(group: Sequence[str]) -> str:
    more = f" = {len(group) - _TOLD} more" if len(group) > _TOLD else ""
    return " = ".join(group[:_TOLD]) + more
