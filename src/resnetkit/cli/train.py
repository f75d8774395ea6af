"""`resnetkit train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from resnetkit.cli import BEGAN
from resnetkit.cli.console import percent, print_json, remarks, results
from resnetkit.cli.counting import Counting
from resnetkit.cli.flags import Common, Switch
from resnetkit.cli.recipe_flags import RecipeFlags
from resnetkit.errors import InvalidArgument

if TYPE_CHECKING:
    from resnetkit.api.repeating import SeedsResult
    from resnetkit.api.training import TrainResult

_RECIPE = RecipeFlags()
_NONE = Common()


def train_command(
    data: str | None = None,
    /,
    *,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    pretrained: Switch = False,
    recipe: str | None = None,
    show_recipe: Switch = False,
    find_lr: Switch = False,
    flags: RecipeFlags = _RECIPE,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    resume: Path | None = None,
    force: Switch = False,
    seed: int | None = None,
    skip_broken: Switch = False,
    cache: Switch = False,
    deterministic: Switch = False,
    checkpoint_steps: int | None = None,
    checkpoint_minutes: float = 10.0,
    seeds: int | None = None,
    track: Literal["tensorboard", "wandb", "mlflow"] | None = None,
    minutes: float | None = None,
    device: str | None = None,
    workers: Annotated[int | None, Parameter(name=["--workers", "-j"])] = None,
    common: Common = _NONE,
) -> int:
    """Train a network on a folder of pictures, or continue a run.

    Parameters
    ----------
    data
        A folder with one folder of pictures a class (or train/ and val/ of such), a table of paths and labels, an .npz
        in MedMNIST's layout, or a known name such as digits or cifar10 (downloaded once).
    model
        An architecture's name, or a model file or run to start from (default: resnet18 for photos, resnet20 for
        small images).
    pretrained
        Start from published weights of the model (downloaded once; resnetkit list --pretrained shows them).
    recipe
        A named recipe (finetune, scratch, small-images, fast, imagenette, paper-2015, paper-2015-cifar,
        torchvision-v2, rsb-a1, rsb-a2, rsb-a3) or a YAML file: a few fields, or a run's recipe.yaml to run it again
        (default: finetune from weights, else small-images or scratch).
    show_recipe
        Print the recipe that these flags give, and stop.
    find_lr
        Try a hundred steps at rising learning rates, say at which one to train, and stop; nothing is kept.
    output
        The run's folder (default: runs/train, runs/train-2, …).
    resume
        Continue this run where it stopped; nothing else is needed.
    force
        With --resume: continue although the data, its classes or the recipe (its file, or flags given beside) are not
        those that the run began with, from the beginning of the epoch it is in.
    seed
        Of the split, the first weights and all that is random (default: 0).
    skip_broken
        Leave out pictures that cannot be decoded, and say which, instead of stopping.
    cache
        Decode photos once and keep their pixels, reduced to what the network needs, in ~/.cache/resnetkit (or where
        RESNETKIT_CACHE says) for all later epochs and runs.
    deterministic
        Repeat bit for bit: float32, no probe, deterministic algorithms.
    checkpoint_steps
        Also write a checkpoint every this many steps.
    checkpoint_minutes
        Write a checkpoint when the last one is this old, and after each epoch.
    seeds
        Train this many times, with --seed, --seed + 1, …, and say mean and deviation of the best epochs' accuracies;
        each of them has all of --minutes.
    track
        Also write the run's numbers for tensorboard, wandb (offline unless a key and its server are there, or
        WANDB_MODE says) or mlflow (MLFLOW_TRACKING_URI, else into the run's folder), each an extra of its own:
        pip install 'resnetkit[wandb]'.
    minutes
        Time for the whole command, start and validation included; replaces --epochs, and the learning rate reaches
        zero as the time runs out (with --deterministic the steps are counted out beforehand).
    device
        cpu, cuda or cuda:1 (default: a GPU if there is one; with --resume the one that the run was on).
    workers
        Threads that decode pictures (default: one a core).
    """
    from resnetkit.api.repeating import train_with_seeds
    from resnetkit.api.training import resume as continue_run
    from resnetkit.api.training import train
    from resnetkit.cli.training_display import TrainingDisplay
    from resnetkit.training.processes import is_first
    from resnetkit.training.tracking import tracked

    if minutes is not None and vars(flags)["epochs"] is not None:
        raise InvalidArgument("--minutes and --epochs both say how long to train: give one of them")
    if (show_recipe or resume is not None) and vars(flags)["batch_size"] == "auto":
        raise InvalidArgument("--batch-size auto is found out as a run begins: give a number here, or leave it out")
    if find_lr and (resume is not None or output is not None or seeds is not None or minutes is not None or track):
        raise InvalidArgument("--find-lr begins no run: leave out --resume, --output, --seeds, --minutes and --track")
    if show_recipe:
        return _show(data, model, pretrained, recipe, flags, common)
    if resume is not None:
        begun_with = {
            "--model": model, "--recipe": recipe, "--output": output, "--minutes": minutes, "--seed": seed,
            "--seeds": seeds, "--pretrained": pretrained or None, "--skip-broken": skip_broken or None,
            "--cache": cache or None, "--deterministic": deterministic or None,
        }  # fmt: skip
        if given := [flag for flag, value in begun_with.items() if value is not None]:
            raise InvalidArgument(
                f"--resume {resume} knows data, model and recipe from when the run began: leave out {', '.join(given)}"
            )
        with TrainingDisplay(str(resume)) as display, tracked(display, track) as listener:
            result = continue_run(
                resume, data, force=force, **vars(flags), checkpoint_steps=checkpoint_steps,
                checkpoint_minutes=checkpoint_minutes, device=device, workers=workers, began=BEGAN, listener=listener,
            )  # fmt: skip
    else:
        settings: dict[str, Any] = {
            "model": model, "pretrained": pretrained, "recipe": recipe, **vars(flags), "seed": seed,
            "skip_broken": skip_broken, "cache": cache, "deterministic": deterministic, "device": device,
            "workers": workers,
        }  # fmt: skip
        if find_lr:
            return _find(data, settings, flags, common)
        ways: dict[str, Any] = {
            "output": output, "checkpoint_steps": checkpoint_steps, "checkpoint_minutes": checkpoint_minutes,
            "minutes": minutes,
        }  # fmt: skip
        with TrainingDisplay(str(data)) as display, tracked(display, track) as listener:
            if seeds is not None:
                return _show_seeds(train_with_seeds(seeds, data, **ways, listener=listener, **settings), common)
            result = train(data, **ways, began=BEGAN, listener=listener, **settings)
    if not is_first():
        return 0
    if common.json:
        print_json(result.to_dict())
        return 0
    if result.best_score is not None:
        remarks.print(f"\nBest     epoch {result.best_epoch}: {_score(result)}")
    else:
        remarks.print("\nBest     the last epoch: no image was held out to choose by")
    remarks.print(f"Model    {result.model}")
    remarks.print(f"Next     resnetkit evaluate {result.run} {result.data}")
    remarks.print(f"         resnetkit predict {result.run} photo.jpg")
    return 0


def _show(
    data: str | None, model: str | None, pretrained: bool, recipe: str | None, flags: RecipeFlags, common: Common
) -> int:
    from resnetkit.api.choosing import show_recipe

    with Counting() as counting:
        shown = show_recipe(
            data, model=model, pretrained=pretrained, recipe=recipe, progress=counting, **vars(flags)
        )  # fmt: skip
    if common.json:
        print_json(shown.to_dict())
    else:
        sys.stdout.write(shown.to_yaml())
    return 0


def _find(data: str | None, settings: dict[str, Any], flags: RecipeFlags, common: Common) -> int:
    from resnetkit.api.finding import find_lr
    from resnetkit.cli.rate_display import rate_table, train_words
    from resnetkit.cli.training_display import TrainingDisplay

    with TrainingDisplay(str(data)) as display:
        found = find_lr(data, listener=display, **settings)
    if common.json:
        print_json(found.to_dict())
        return 0
    results.print(rate_table(found), markup=False)
    switched = {key: value for key, value in settings.items() if value is not False or key in vars(flags)}
    results.print(
        f"\nSuggestion  {found.suggestion:g}, between the careful {found.tenth_of_lowest:g} (a tenth of the rate with "
        f"the lowest loss) and the bold {found.steepest:g} (the steepest fall); the recipe's own is {found.usual:.2g}",
        markup=False,
    )  # fmt: skip
    results.print(f"Next        {train_words(data, {**switched, 'lr': found.suggestion})}", markup=False)
    return 0


def _show_seeds(result: "SeedsResult", common: Common) -> int:
    from resnetkit.training.processes import is_first

    if not is_first():
        return 0
    if common.json:
        print_json(result.to_dict())
        return 0
    for each in result.runs:
        remarks.print(f"{each.run}  {_score(each)}")
    if result.mean_score is not None and result.deviation_score is not None:
        remarks.print(
            f"{len(result.runs)} seeds: {100 * result.mean_score:.2f} ± {100 * result.deviation_score:.2f} % "
            "(mean ± standard deviation)"
        )
    return 0


def _score(result: "TrainResult") -> str:
    """What the best epoch scored."""
    if result.best_score is None:
        return "–"
    kind = "" if result.measure == "top1" else " mean average precision"
    return f"{percent(result.best_score)}{kind} of {result.val_n} held-out images"
