"""`resnetkit verify`."""

from resnetkit.cli.console import percent, print_json, remarks, results
from resnetkit.cli.counting import Counting
from resnetkit.cli.flags import Common

_NONE = Common()


def verify_command(
    file: str,
    data: str | None = None,
    /,
    *,
    against: str | None = None,
    split: str | None = None,
    max_loss: float = 0.5,
    min_agreement: float = 99.0,
    common: Common = _NONE,
) -> int:
    """Check that an exported file still says what its network said; exit code 1 if not. Only .pt2 files need torch.

    Parameters
    ----------
    file
        What export wrote: a .onnx, .xml or .pt2 file, or the folder it lies in.
    data
        Labelled pictures, as for train, on which the file is compared with another.
    against
        The exported file that it has to agree with, such as the float32 one of an int8 one.
    split
        Which part: train, val or test (default: test, else val, else all).
    max_loss
        Points of accuracy that it may lose.
    min_agreement
        Percent of the pictures for which both must say the same.
    """
    from resnetkit.api.verifying import verify
    from resnetkit.deployment.exports.acceptance import Bounds

    bounds = Bounds(max_loss=max_loss / 100, min_agreement=min_agreement / 100)
    with Counting() as counting:
        result = verify(file, data, against=against, split=split, bounds=bounds, progress=counting)
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
        results.print(f"  top-1    {percent(both.top1)}, the other {percent(both.reference_top1)}")
        results.print(f"  agree    {percent(both.agreement)}, probabilities within {both.max_difference:.2g}")
        results.print(f"  one      {both.milliseconds:.1f} ms, the other {both.reference_milliseconds:.1f} ms")
    for objection in result.objections:
        results.print(f"  WRONG    {objection}")
    return 0 if result.passed else 1
