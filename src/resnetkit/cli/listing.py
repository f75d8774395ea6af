"""`resnetkit list` (a module called list would hide the builtin from its package)."""

from typing import Annotated

from cyclopts import Parameter

from resnetkit.api.catalogue import list_models
from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.pretrained import pretrained_weights
from resnetkit.cli.console import print_json, remarks, results
from resnetkit.cli.flags import Common, Switch
from resnetkit.tables import aligned

_NONE = Common()


def list_command(
    pattern: Annotated[str, Parameter(show_default=False)] = "*",
    /,
    *,
    pretrained: Switch = False,
    common: Common = _NONE,
) -> int:
    """Show the architectures that can be built.

    Parameters
    ----------
    pattern
        Names to show, with * and ? as in a shell (quote it, or the shell reads it first).
    pretrained
        Show published weights instead, with licence, input size and accuracy on ImageNet where it is known.
    """
    names = list_models(pattern, pretrained=pretrained)
    if common.json:
        print_json(names)
        return 0 if names else 1
    if not names:
        kind = "published weights match" if pretrained else "architecture matches"
        remarks.print(f"resnetkit: no {kind} {pattern!r}; resnetkit list shows all")
        return 1
    results.print("\n".join(_published(names) if pretrained else _architectures(names)))
    if pretrained:
        remarks.print(f"\n{len(names)} published weights. Use one: resnetkit predict {names[0]} photo.jpg")
    else:
        remarks.print(f"\n{len(names)} architectures. Look into one: resnetkit describe {names[0]}")
    return 0


def _architectures(names: list[str]) -> list[str]:
    rows = []
    for name in names:
        row = architecture(name)
        kind = f"{type(row).__name__} {getattr(row, 'block', '')}".strip()
        rows.append((name, kind, "-".join(map(str, row.depths)), "-".join(map(str, row.out_channels))))
    return aligned(("name", "network", "blocks in each stage", "channels out of each stage"), rows, left=4)


def _published(names: list[str]) -> list[str]:
    rows = []
    for name in names:
        weights = pretrained_weights()[name]
        top1 = "–" if weights.top1 is None else f"{100 * weights.top1:.2f} % at {weights.scored_at} px"
        licence, size = weights.licence or "–", f"{weights.preprocess.size[0]} px"
        rows.append((name, top1, size, str(weights.num_classes or "–"), licence))
    return aligned(("name", "ImageNet top 1", "input", "classes", "licence"), rows, left=5)
