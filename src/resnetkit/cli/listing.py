"""`resnetkit list` (a module called list would hide the builtin from its package)."""

from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from resnetkit.api.catalogue import list_models
from resnetkit.catalog.architectures import architecture
from resnetkit.cli.console import print_json, remarks, results
from resnetkit.cli.flags import Common

_NONE = Common()


def list_command(
    pattern: Annotated[str, Parameter(show_default=False)] = "*",
    /,
    *,
    common: Common = _NONE,
) -> int:
    """Show the architectures that can be built.

    Parameters
    ----------
    pattern
        Names to show, with * and ? as in a shell (quote it, or the shell reads it first).
    """
    names = list_models(pattern)
    if common.json:
        print_json(names)
        return 0 if names else 1
    if not names:
        remarks.print(f"resnetkit: no architecture matches {pattern!r}; resnetkit list shows all")
        return 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "network", "blocks in each stage", "channels out of each stage"):
        table.add_column(column)
    for name in names:
        row = architecture(name)
        kind = getattr(row, "block", "")
        table.add_row(
            name,
            f"{type(row).__name__} {kind}".strip(),
            "-".join(map(str, row.depths)),
            "-".join(map(str, row.out_channels)),
        )
    results.print(table)
    remarks.print(f"\n{len(names)} architectures. Look into one: resnetkit describe {names[0]}")
    return 0
