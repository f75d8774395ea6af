"""`resnetkit predict`."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from csv import writer as csv_writer
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from resnetkit.cli.console import percent, print_json, remarks, results
from resnetkit.cli.counting import Counting
from resnetkit.cli.flags import AskingFlags, Common, StatedFlags, Switch, stated_by
from resnetkit.data.decode import printable
from resnetkit.errors import InvalidArgument

if TYPE_CHECKING:
    from resnetkit.deployment.predictor import Failure, Prediction

    Answer = Prediction | Failure

_ASKING = AskingFlags()
_STATED = StatedFlags()
_NONE = Common()


def predict_command(
    model: str,
    /,
    *sources: Annotated[str, Parameter(allow_leading_hyphen=True)],
    top_k: Annotated[int, Parameter(name=["--top-k", "-k"])] = 5,
    csv: Switch = False,
    jsonl: Switch = False,
    batch_size: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 16,
    asking: AskingFlags = _ASKING,
    stated: StatedFlags = _STATED,
    common: Common = _NONE,
) -> int:
    """Say what is on pictures. A picture that cannot be read gives an error row; the exit code is then 1.

    Parameters
    ----------
    model
        A run folder, a model file, an exported file (.onnx, .xml, .pt2) or a foreign checkpoint.
    sources
        Pictures, folders of pictures, or - for paths on standard input, one a line.
    top_k
        How many classes to show for each picture.
    csv
        One line a class: source, rank, label, score, error.
    jsonl
        One JSON object a picture, as soon as it is known.
    batch_size
        Images computed at once.
    """
    from resnetkit.api.predicting import count, predict
    from resnetkit.deployment.predictor import Failure

    if common.json + csv + jsonl > 1:
        raise InvalidArgument("choose one of --json, --csv and --jsonl")
    if top_k < 1:
        raise InvalidArgument(f"--top-k {top_k}: ask for at least one class")
    known = bool(sources) and "-" not in sources
    answers = predict(
        model, sources if known else _expanded(sources),
        batch_size=batch_size, stated=stated_by(stated), **vars(asking),
        remark=lambda text: remarks.print(f"note: {text}"),
    )  # fmt: skip
    show = _json if common.json else _csv if csv else _jsonl if jsonl else _lines
    with Counting() as counting:
        # On a terminal the answers themselves show how far it is.
        if known and not sys.stdout.isatty():
            answers = _counted(answers, partial(counting, "predicting", total=count(sources)))
        failed = sum(isinstance(each, Failure) for each in show(answers, top_k))
    return 1 if failed else 0


def _counted(answers: "Iterable[Answer]", tell: Callable[[int], None]) -> "Iterator[Answer]":
    for done, answer in enumerate(answers, start=1):
        yield answer
        tell(done)


def _expanded(sources: Iterable[str]) -> Iterator[str]:
    """The sources, with - replaced by the lines of standard input, read as they come."""
    for source in sources or ("-",):
        if source == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin or () if line.strip())
        else:
            yield source


# Each of these shows the answers as they come and hands them on to be counted.


def _lines(answers: "Iterable[Answer]", k: int) -> "Iterator[Answer]":
    for answer in answers:
        values = answer.to_dict(k)
        source = printable(values["source"])
        if "error" in values:
            remarks.print(f"{source}  error: {values['error']}", markup=False)
        else:
            shown = values["predictions"]
            if "labels" in values:  # of several labels those that are there, however many
                shown = answer.to_dict(len(values["labels"]))["predictions"] if values["labels"] else []
            said = "  ".join(f"{each['label']} {percent(each['score'])}" for each in shown) or "none of its classes"
            results.print(f"{source}  {said}", markup=False)
        yield answer


def _csv(answers: "Iterable[Answer]", k: int) -> "Iterator[Answer]":
    rows = csv_writer(sys.stdout)
    rows.writerow(["source", "rank", "label", "score", "error"])
    for answer in answers:
        values = answer.to_dict(k)
        source = printable(values["source"])
        if "error" in values:
            rows.writerow([source, "", "", "", values["error"]])
        for rank, each in enumerate(values.get("predictions", ()), start=1):
            rows.writerow([source, rank, each["label"], f"{each['score']:.6f}", ""])
        sys.stdout.flush()
        yield answer


def _jsonl(answers: "Iterable[Answer]", k: int) -> "Iterator[Answer]":
    for answer in answers:
        print(json.dumps(answer.to_dict(k)), flush=True)
        yield answer


def _json(answers: "Iterable[Answer]", k: int) -> "Iterator[Answer]":
    kept = list(answers)
    print_json([answer.to_dict(k) for answer in kept])
    yield from kept
