"""`resnetkit adopt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from resnetkit.cli.console import print_json, results
from resnetkit.cli.flags import Common, StatedFlags, Switch, stated_by
from resnetkit.errors import printable
from resnetkit.tables import aligned

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
    results.print(
        f"{adoption.source} is {name}: {card.num_classes or 'no'} classes, {card.in_chans} channels", markup=False
    )
    results.print(f"  names    {report.layout}'s")
    results.print(
        f"  tensors  {len(report.matched)} matched, {len(report.dropped)} dropped, "
        f"{len(report.filled)} missing and filled"
    )
    for note in report.notes:
        results.print(f"  note     {printable(note)}", markup=False)
    if tensors or report.dropped:
        results.print("\n".join(_table(report, every=tensors)), markup=False)
    results.print(f"\nWritten  {adoption.output}", markup=False)
    if format is None:
        results.print(f"Next     resnetkit predict {adoption.output} photo.jpg", markup=False)
    return 0


def _table(report: "Report", *, every: bool) -> list[str]:
    """The dropped tensors, and with `every` those that went somewhere or came from nowhere."""
    rows = [(row.theirs, row.shape, row.ours) for row in report.matched if every]
    rows += [(gone.theirs, gone.shape, f"dropped: {gone.reason}") for gone in report.dropped]
    rows += [("–", new.shape, f"{new.ours}, filled with {new.value}") for new in report.filled if every]
    cells = [(printable(theirs), "×".join(map(str, shape)) or "scalar", printable(end)) for theirs, shape, end in rows]
    return aligned(("in the file", "shape", "became"), cells, left=3)
