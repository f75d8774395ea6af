"""`resnetkit verify`."""

from resnetkit.cli.console import percent, print_json, remarks, results
from resnetkit.cli.counting import Counting
from resnetkit.cli.flags import BoundsFlags, Common, bounds_by

_BOUNDS = BoundsFlags()
_NONE = Common()


def verify_command(
    file: str,
    data: str | None = None,
    /,
    *,
    against: str | None = None,
    split: str | None = None,
    bounds: BoundsFlags = _BOUNDS,
    common: Common = _NONE,
) -> int:
    """Check that an exported file still says what its network said; exit code 1 if not. Only .pt2 files need torch.

    Parameters
    ----------
    file
        What export wrote: a .onnx, .xml or .pt2 file, or the folder it lies in.
    data
        Labelled pictures, as for train, on which the file is compared with the network that it has to agree with.
    against
        That network: any MODEL, or another exported file, such as the float32 one of an int8 one (default: the model
        file that it was made of, if that still stands where it stood).
    split
        Which part: train, val or test (default: test, else val, else all).
    """
    from resnetkit.api.verifying import verify

    with Counting() as counting:
        result = verify(file, data, against=against, split=split, bounds=bounds_by(bounds), progress=counting)
    for note in result.notes:
        remarks.print(f"note: {note}")
    if common.json:
        print_json(result.to_dict())
        return 0 if result.passed else 1
    golden = result.golden
    results.print(f"{result.description}", markup=False)
    results.print(
        f"  golden   {'right' if golden.passed else 'WRONG'}: {golden.difference:.1e} from its expected answer "
        f"(bound {golden.bound:g}), {'same' if golden.same_top1 else 'another'} class first"
    )
    if both := result.comparison:
        results.print(f"  compared on the {result.split} part of {result.data}, n = {both.n}", markup=False)
        results.print(f"  with     {result.against}", markup=False)
        results.print(f"  top-1    {percent(both.top1)}, the other {percent(both.reference_top1)}")
        results.print(f"  agree    {percent(both.agreement)}, probabilities within {both.max_difference:.2g}")
        results.print(f"  one      {both.milliseconds:.1f} ms, the other {both.reference_milliseconds:.1f} ms")
    if own := result.alone:
        results.print(f"  alone on the {result.split} part of {result.data}, n = {own.n}", markup=False)
        then = "" if own.measured_top1 is None else f", {percent(own.measured_top1)} when it was made"
        results.print(f"  top-1    {percent(own.top1)}{then}")
        results.print(f"  one      {own.milliseconds:.1f} ms")
    for objection in result.objections:
        results.print(f"  WRONG    {objection}")
    return 0 if result.passed else 1
