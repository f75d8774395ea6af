"""`resnetkit check`."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape

from resnetkit.cli.console import duration, print_json, remarks, results
from resnetkit.cli.counting import Counting
from resnetkit.cli.flags import Common

if TYPE_CHECKING:
    from resnetkit.data.findings import Finding
    from resnetkit.data.health import Health

_NONE = Common()
_MARKS = {"harm": "[bold red]✗[/]", "caution": "[bold yellow]![/]", "note": "[dim]·[/]"}
_SHOWN = 3  # names of a finding
_WIDTH = 100


def check_command(
    data: str,
    /,
    *,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    image_size: int | None = None,
    fix: Path | None = None,
    show: Path | None = None,
    recipe: str | None = None,
    workers: Annotated[int | None, Parameter(name=["--workers", "-j"])] = None,
    common: Common = _NONE,
) -> int:
    """Look for what spoils training: broken files, copies, missing classes, odd pictures. No image is changed.

    The exit code is 1 where training would stop, learn something false or be scored falsely.

    Parameters
    ----------
    data
        Labelled pictures, as for train.
    model
        A run or a model file whose input the pictures are to fit (default: what train would choose).
    image_size
        Side of the square the network is to see, in pixels.
    fix
        Write a table of the sound pictures, without broken files and copies, which train takes in place of DATA.
    show
        Write a picture (PNG) of the first batch that train would feed, augmented, with its labels.
    recipe
        The recipe whose augmentation is shown, by name or file (default: what train would choose).
    workers
        Threads that decode pictures (default: one a core).
    """
    from resnetkit.api.checking import check

    with Counting() as counting:
        result = check(
            data, model=model, image_size=image_size, fix=fix, show=show, recipe=recipe, workers=workers,
            progress=counting,
        )  # fmt: skip
    health = result.health
    if common.json:
        print_json(result.to_dict())
        return int(health.harmed)
    _print_facts(health)
    for finding in health.findings:
        _print_finding(finding)
    _print_verdict(health)
    if result.cleaned is not None:
        cleaned = result.cleaned
        odd = f", {cleaned.unwritable} whose names are no text" if cleaned.unwritable else ""
        remarks.print(
            f"{cleaned.table}: {cleaned.kept} pictures, without {cleaned.broken} broken ones and {cleaned.copies} "
            f"copies{odd}. Next: resnetkit train {cleaned.table}",
            markup=False,
        )
    if result.shown is not None:
        remarks.print(f"{result.shown}: what training would feed first", markup=False)
    return int(health.harmed)


def _print_facts(health: "Health") -> None:
    parts = ", ".join(f"{n} in {part}" for part, n in health.parts.items() if part != "all")
    classes = max(map(len, health.classes.values()), default=0)
    results.print(f"[bold]{escape(health.data)}[/]")
    if not health.parts:
        return
    _fact("pictures", f"{health.images}{f' ({parts})' if parts else ''}, {classes} classes")
    for part, counts in health.classes.items():
        rarest, commonest = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
        where = "a class" if part == "all" else f"a class in {part}"
        numbers = f"{counts[rarest]}"
        if counts[rarest] != counts[commonest]:
            numbers = f"{counts[rarest]} ({rarest}) to {counts[commonest]} ({commonest})"
        _fact("", f"{numbers} {where}")
    if health.sizes is not None:
        median, least, most = (f"{width}×{height}" for height, width in vars(health.sizes).values())
        formats = ", ".join(f"{n} {name}" for name, n in health.formats.items())
        spread = "all" if least == most else f"median {median}, from {least} to {most};"
        _fact("sizes", f"{spread} {median if least == most else ''}{' ' if least == most and formats else ''}{formats}")
        row = health.preprocess
        if row is not None:
            _fact("mean", f"{_numbers(health.mean)}   the network expects {_numbers(row.mean)}")
            _fact("std", f"{_numbers(health.std)}   {'':19}{_numbers(row.std)}".rstrip())
    for note in health.notes:
        _fact("note", note)
    results.print()


def _fact(name: str, text: str) -> None:
    results.print(textwrap.fill(text, _WIDTH, initial_indent=f"  {name:<9} ", subsequent_indent=" " * 12), markup=False)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _print_finding(finding: "Finding") -> None:
    share = f"{finding.count} of {finding.of}"
    results.print(f"{_MARKS[finding.level]} [bold]{escape(finding.title)}[/]  [dim]{share}[/]")
    shown = list(finding.names[:_SHOWN])
    if sum(map(len, shown)) + 2 * len(shown) + 20 <= _WIDTH:
        shown = [", ".join(shown)]
    if len(finding.names) > _SHOWN:
        more = f"and {len(finding.names) - _SHOWN} more"
        shown = [f"{shown[0]} {more}"] if len(shown) == 1 else [*shown, more]
    for line in shown:
        results.print(_indented(line), markup=False)
    results.print(f"[dim]{escape(_indented(finding.consequence))}[/]")
    if finding.remedy:
        results.print(f"    [cyan]{escape(finding.remedy)}[/]")


def _indented(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def _print_verdict(health: "Health") -> None:
    harms = sum(finding.level == "harm" for finding in health.findings)
    time = f"({health.images} pictures in {duration(health.seconds)})"
    if harms:
        results.print(
            f"\n[bold red]Mend {'this' if harms == 1 else f'these {harms} things'} before training.[/] {time}"
        )
    elif health.findings:
        results.print(f"\n[bold green]Fit for training[/]; mind what is said above. {time}")
    else:
        results.print(f"[bold green]Fit for training:[/] nothing is the matter. {time}")
