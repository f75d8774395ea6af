"""`resnetkit demo`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from resnetkit.cli.console import duration, percent, print_json, remarks, results
from resnetkit.cli.flags import Common

_NONE = Common()


def demo_command(
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    seed: int = 0,
    common: Common = _NONE,
) -> int:
    """Train, check and use a network on real handwritten digits, in two minutes and without a download.

    Parameters
    ----------
    output
        The run's folder (default: runs/demo, runs/demo-2, …).
    seed
        Of the first weights, the order of images and their shifts.
    """
    from resnetkit.api.demonstrating import demonstrate
    from resnetkit.cli.training_display import TrainingDisplay
    from resnetkit.evaluation.scoring import Scores

    with TrainingDisplay("digits") as display:
        shown = demonstrate(
            output=output,
            seed=seed,
            listener=display,
            announce=lambda step: remarks.print(f"\n[bold]{step}[/bold]"),
        )
    if common.json:
        print_json(shown.to_dict())
        return 0
    scores, run = shown.evaluation.scores, shown.training.run
    assert isinstance(scores, Scores), "a digit has one label"
    low, high = scores.top1_ci95
    said = shown.prediction.top(1)[0]
    results.print(f"{shown.picture} shows a {shown.truth}; the network says {said.label} ({percent(said.score)} sure)")
    results.print(
        f"\nScore   {percent(scores.top1)} of n = {scores.n} digits it never saw "
        f"(95 % interval {percent(low)} to {percent(high)}), trained in {duration(shown.training.seconds)}"
    )
    results.print(f"Model   {shown.training.model}")
    results.print(f"Run     {run}")
    results.print("\nNow your own photos, one folder for each kind (photos/cat, photos/dog, …):")
    results.print("        resnetkit train photos")
    return 0
