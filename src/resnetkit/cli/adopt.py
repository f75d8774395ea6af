"""`resnetkit adopt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from resnetkit.cli.console import print_json, results
from resnetkit.cli.flags import Common, StatedFlags, Switch, stated_by

if TYPE_CHECKING:
    from resnetkit.checkpoints.report import Report

_STATED = StatedFlags()
_NONE = Common()


def adopt_command(
    checkpoint: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    format: Literal["torchvision", "timm"] | None = None,
    tensors: Switch = False,
    stated: StatedFlags = _STATED,
    common: Common = _NONE,
) -> int:
    """Turn a stranger's checkpoint into a model file, whatever project wrote it. Nothing in the file is run.

    Parameters
    ----------
    checkpoint
        The file: safetensors or torch, of torchvision, timm, mmpretrain, transformers and others.
    output
        Where to write (default: beside the file, ending in .adopted.safetensors).
    format
        Write the bare tensors under another project's names instead.
    tensors
        Show what became of every tensor.
    """
    from resnetkit.api.adopting import adopt

    adoption = adopt(checkpoint, output, target=format, stated=stated_by(stated))
    if common.json:
        print_json(adoption.to_dict())
        return 0
    card, report = adoption.card, adoption.report
    name = card.architecture or f"a {type(card.row).__name__} network of no known name"
    results.print(f"{adoption.source} is {name}: {card.num_classes or 'no'} classes, {card.in_chans} channels")
    results.print(f"  names    {report.layout}'s")
    results.print(
        f"  tensors  {len(report.matched)} matched, {len(report.dropped)} dropped, "
        f"{len(report.filled)} missing and filled"
    )
    for note in report.notes:
        results.print(f"  note     {note}", markup=False)
    if tensors or report.dropped:
        results.print(_table(report, every=tensors))
    results.print(f"\nWritten  {adoption.output}")
    if format is None:
        results.print(f"Next     resnetkit predict {adoption.output} photo.jpg")
    return 0


def _table(report: "Report", *, every: bool) -> Table:
    """The dropped tensors, and with `every` those that went somewhere or came from nowhere."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("in the file", "shape", "became"):
        table.add_column(column)
    for row in report.matched if every else ():
        table.add_row(row.theirs, _shape(row.shape), row.ours)
    for gone in report.dropped:
        table.add_row(gone.theirs, _shape(gone.shape), f"dropped: {gone.reason}")
    for new in report.filled if every else ():
        table.add_row("–", _shape(new.shape), f"{new.ours}, filled with {new.value}")
    return table


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"
