"""What exists, by name."""

from fnmatch import fnmatchcase

from resnetkit.catalog.architectures import ARCHITECTURES
from resnetkit.catalog.pretrained import pretrained_weights


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """The architectures whose name matches a shell pattern, or the published weights (`architecture.tag`) for them.

    >>> list_models("resnet?8")
    ['resnet18']
    >>> list_models("resnet34", pretrained=True)[0]
    'resnet34.a1_in1k'
    """
    if pretrained:
        return [
            name for name, weights in pretrained_weights().items()
            if fnmatchcase(name, pattern) or fnmatchcase(weights.architecture, pattern)
        ]  # fmt: skip
    return [name for name in ARCHITECTURES if fnmatchcase(name, pattern)]
