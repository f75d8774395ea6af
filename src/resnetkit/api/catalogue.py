"""What exists, by name."""

from fnmatch import fnmatchcase

from resnetkit.catalog.architectures import ARCHITECTURES


def list_models(pattern: str = "*") -> list[str]:
    """The architectures whose name matches a shell pattern, in the catalogue's order.

    >>> list_models("resnet?8")
    ['resnet18']
    """
    return [name for name in ARCHITECTURES if fnmatchcase(name, pattern)]
