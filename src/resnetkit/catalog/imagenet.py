"""The thousand classes of ImageNet (ILSVRC 2012), in the order of every published network's outputs."""

from functools import cache
from importlib.resources import files


@cache
def _rows() -> tuple[tuple[str, str], ...]:
    text = files("resnetkit.catalog").joinpath("imagenet.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple((wnid, name) for wnid, name in rows)


def class_names() -> tuple[str, ...]:
    """The 1000 names by index, all different.

    >>> class_names()[0], len(class_names())
    ('tench', 1000)
    """
    return tuple(name for _, name in _rows())


def wnids() -> tuple[str, ...]:
    """The 1000 WordNet ids by index, which name the folders of the data set.

    >>> wnids()[0]
    'n01440764'
    """
    return tuple(wnid for wnid, _ in _rows())


@cache
def name_of_wnid() -> dict[str, str]:
    """WordNet id → name, so that folders of ids match networks with names.

    >>> name_of_wnid()["n01440764"]
    'tench'
    """
    return dict(_rows())
