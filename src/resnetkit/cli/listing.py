"""`resnetkit list` (a module called list would hide the builtin from its package)."""

from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from resnetkit.api.catalogue import list_models
from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.pretrained import pretrained_weights
from resnetkit.cli.console import print_json, remarks, results
from resnetkit.cli.flags import Common, Switch

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
    results.print(_published(names) if pretrained else _architectures(names))
    if pretrained:
        remarks.print(f"\n{len(names)} published weights. Use one: resnetkit predict {names[0]} photo.jpg")
    else:
        remarks.print(f"\n{len(names)} architectures. Look into one: resnetkit describe {names[0]}")
    return 0


def _architectures(names: list[str]) -> Table:
    table = _table("name", "network", "blocks in each stage", "channels out of each stage")
    for name in names:
        row = architecture(name)
        kind = getattr(row, "block", "")
        depths, channels = "-".join(map(str, row.depths)), "-".join(map(str, row.out_channels))
        table.add_row(name, f"{type(row).__name__} {kind}".strip(), depths, channels)
    return table


def _published(names: list[str]) -> Table:
    table = _table("name", "ImageNet top 1", "input", "classes", "licence")
    for name in names:
        weights = pretrained_weights()[name]
        size = weights.scored_at or weights.train_size
        top1 = "–" if weights.top1 is None else f"{100 * weights.top1:.2f} % at {size} px"
        table.add_row(name, top1, f"{weights.preprocess.size[0]} px", str(weights.num_classes), weights.licence or "–")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table
