"""`resnetkit export`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from resnetkit.cli.console import percent, print_json, remarks, results
from resnetkit.cli.counting import Counting
from resnetkit.cli.flags import BoundsFlags, Common, StatedFlags, Switch, bounds_by, stated_by
from resnetkit.errors import InvalidArgument

_BOUNDS = BoundsFlags()
_STATED = StatedFlags()
_NONE = Common()


def export_command(
    model: str,
    /,
    *,
    format: Literal["onnx", "openvino", "torch"] = "onnx",
    input: Literal["picture", "tensor"] = "picture",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    int8: Switch = False,
    calibrate: str | None = None,
    calibration_images: int = 300,
    force: Switch = False,
    bounds: BoundsFlags = _BOUNDS,
    stated: StatedFlags = _STATED,
    common: Common = _NONE,
) -> int:
    """Write a network as a file that other runtimes take, with all it needs inside, and check it first.

    Parameters
    ----------
    model
        A run folder, a model file, a foreign checkpoint or the name of published weights.
    format
        onnx (model.onnx), openvino (model.xml and model.bin) or torch (model.pt2).
    input
        picture: the file takes uint8 pictures of any size and gives probabilities; resizing, cropping and normalising
        are inside. tensor: the bare network, float32 N,C,H,W to logits.
    int8
        Write 8-bit numbers, if they can be trusted: answers and speed are held beside float32 before writing.
    calibrate
        With --int8: labelled pictures, as for train. Its training part calibrates, its validation part judges.
    calibration_images
        How many pictures calibrate, as many of each class.
    force
        Write int8 even where it is refused; the file then says so.
    output
        A folder, or a file of the format's own suffix (default: export beside the model's file; for a published or
        bare network's name, export/NAME in the working folder).
    """
    from resnetkit.api.exporting import export

    if int8 != (calibrate is not None):
        raise InvalidArgument("--int8 and --calibrate DATA go together: real pictures say which numbers occur")
    with Counting() as counting:
        done = export(
            model, output, format=format, input=input, calibrate=calibrate, calibration_images=calibration_images,
            bounds=bounds_by(bounds), force=force, stated=stated_by(stated), progress=counting,
        )  # fmt: skip
    for note in done.notes:
        remarks.print(f"note: {note}")
    if common.json:
        print_json(done.to_dict())
        return 0
    takes = "uint8 pictures N,H,W,C" if input == "picture" else "float32 N,C,H,W, normalised"
    gives = "probabilities" if input == "picture" else "logits"
    results.print(f"{done.card.name}: takes {takes}, gives {gives} of {done.card.num_classes} classes")
    results.print(f"  golden   {done.golden.difference:.1e} from the network (bound {done.golden.bound:g})")
    if done.comparison and done.card.quantisation:
        both, report = done.comparison, done.card.quantisation
        results.print(
            f"  int8     {report['int8_operations']} of {report['operations']} operations, "
            f"calibrated on {report['calibration_images']} pictures"
        )
        results.print(
            f"  judged   top-1 {percent(both.top1)}, float32 {percent(both.reference_top1)}; "
            f"same answer for {percent(both.agreement)} of {both.n} pictures"
        )
        results.print(f"  one      {both.milliseconds:.1f} ms, float32 {both.reference_milliseconds:.1f} ms")
    results.print(f"\nWritten  {done.path}", markup=False)
    results.print(f"Next     resnetkit verify {done.path}", markup=False)
    return 0
