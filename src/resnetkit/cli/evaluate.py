"""`resnetkit evaluate`."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from resnetkit.cli.console import percent, print_json, remarks, results
from resnetkit.cli.counting import Counting
from resnetkit.cli.flags import AskingFlags, Common, StatedFlags, stated_by

if TYPE_CHECKING:
    from resnetkit.evaluation.scoring import Scores
    from resnetkit.evaluation.several import SeveralScores

_ASKING = AskingFlags()
_STATED = StatedFlags()
_NONE = Common()


def evaluate_command(
    model: str,
    data: str,
    /,
    *,
    split: str | None = None,
    batch_size: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 64,
    workers: Annotated[int | None, Parameter(name=["--workers", "-j"])] = None,
    asking: AskingFlags = _ASKING,
    stated: StatedFlags = _STATED,
    common: Common = _NONE,
) -> int:
    """Score a model on labelled pictures it has not seen.

    Parameters
    ----------
    model
        A run folder, a model file, an exported file (.onnx, .xml, .pt2) or a foreign checkpoint.
    data
        Labelled pictures, as for train.
    split
        Which part: train, val or test (default: test, else val, else what the run held out).
    batch_size
        Images computed at once.
    workers
        Threads that decode pictures (default: one a core).
    """
    from resnetkit.api.evaluating import evaluate
    from resnetkit.evaluation.several import SeveralScores

    with Counting() as counting:
        result = evaluate(
            model, data, split=split, batch_size=batch_size, workers=workers, stated=stated_by(stated),
            progress=counting, **vars(asking),
        )  # fmt: skip
    for note in result.notes:
        remarks.print(f"note: {note}")
    if common.json:
        print_json(result.to_dict())
        return 0
    results.print(f"{result.description} on the {result.split} part of {result.data}, n = {result.scores.n}")
    if isinstance(result.scores, SeveralScores):
        _show_several(result.scores)
    else:
        _show(result.scores, result.num_classes)
    return 0


def _show(scores: "Scores", num_classes: int) -> None:
    low, high = scores.top1_ci95
    results.print(
        f"  right    {percent(scores.top1)}  "
        f"({scores.right} of {scores.n}; 95 % interval {percent(low)} to {percent(high)})"
    )
    if num_classes > 5:
        results.print(f"  top 5    {percent(scores.top5)}")
    results.print(f"  balanced {percent(scores.balanced)}  (mean over classes)")
    results.print(f"  loss     {scores.loss:.4f}    calibration error {scores.ece:.4f}")
    weakest = sorted(scores.classes, key=lambda each: (each.recall, each.name))[:5]
    table = Table(box=None, pad_edge=False, header_style="bold", title="Weakest classes", title_justify="left")
    for column in ("class", "n", "recognised", "right when said"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for each in weakest:
        table.add_row(
            each.name, str(each.n), percent(each.recall), percent(each.precision) if each.precision is not None else "–"
        )
    results.print(table)


def _show_several(scores: "SeveralScores") -> None:
    results.print(f"  precision {percent(scores.mean_ap)}  (mean average precision over {len(scores.classes)} classes)")
    results.print(
        f"  F1        {percent(scores.f1)}  (classes of probability {scores.threshold:.3f} and more are said)"
    )
    results.print(f"  exact     {percent(scores.exact)}  (images whose labels are all right)")
    results.print(f"  loss      {scores.loss:.4f}")
    table = Table(box=None, pad_edge=False, header_style="bold", title="Weakest classes", title_justify="left")
    for column in ("class", "n", "average precision", "found", "right when said"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for each in sorted(scores.classes, key=lambda each: (each.average_precision, each.name))[:5]:
        right = percent(each.precision) if each.precision is not None else "–"
        table.add_row(each.name, str(each.n), percent(each.average_precision), percent(each.recall), right)
    results.print(table)
