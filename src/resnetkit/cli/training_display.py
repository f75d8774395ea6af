"""A training run as words: a header, a bar that moves on a terminal, a line an epoch anywhere."""

import sys
import time

import numpy as np
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from resnetkit.catalog.recipe import Recipe
from resnetkit.cli.console import duration, percent, remarks
from resnetkit.cli.counting import Counting
from resnetkit.data.balancing import class_weights
from resnetkit.training.plan import Plan
from resnetkit.training.progress import Began, EpochEnded, Event, Preparing, Remark, Stepped

_AUGMENTATION = {"photo": "random resized crop", "small": "random shift", "none": "no augmentation"}
_WHOLE = {"centre": "", "squash": "; tested on whole pictures, squashed", "pad": "; tested on whole pictures, padded"}
_UNEVEN = 5  # times as many images in the largest class as in the smallest
_SILENCE = 30.0  # seconds after which a pipe gets a line in mid-epoch


class TrainingDisplay:
    """A listener that shows a run on stderr. Use it as a context manager, so that the bar is taken down."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._counting = Counting()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()
        self._read = True

    def __enter__(self) -> "TrainingDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        self._take_down()

    def _take_down(self) -> None:
        """Whichever bar there is: a terminal shows one at a time."""
        self._counting.stop()
        if self._bar:
            self._bar.stop()
            self._bar = None

    def __call__(self, event: Event) -> None:
        """Show one event, as long as somebody reads: a training goes on when whoever looked at its lines has left."""
        if self._read:
            try:
                self._show(event)
            except BrokenPipeError:
                self._read = False

    def _show(self, event: Event) -> None:
        if isinstance(event, Preparing):
            if self._bar:
                self._take_down()
            self._counting(event.doing, event.done, event.total)
        elif isinstance(event, Began):
            self._begin(event)
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, EpochEnded):
            self._epoch(event)
        elif isinstance(event, Remark):
            remarks.print(event.text)

    def _begin(self, event: Began) -> None:
        self._take_down()
        self._last_line = time.monotonic()
        plan = event.plan
        recipe = plan.recipe
        where = f"{plan.data.num_classes} classes" + (", several an image" if plan.data.task == "multilabel" else "")
        remarks.print(
            f"Training {plan.model.name or 'a network of your own row'} ({event.parameters / 1e6:.2f} M parameters) "
            f"on {self._source}: {where}"
        )
        held = f"{event.val_images} held out to choose the best epoch" if event.val_images else "none held out"
        remarks.print(f"  images   {event.train_images} to learn from, {held}")
        remarks.print(f"  input    {_input(plan)}")
        for line in balance_lines(event.class_images, plan):
            remarks.print(line)
        remarks.print(f"  recipe   {_recipe(recipe)}")
        if plan.budget is None:
            length = f"{recipe.epochs} epochs of {event.steps} steps: about {duration(event.seconds)}"
        else:
            exactly = "" if plan.deterministic else "about "
            length = f"{plan.budget.minutes:g} minutes: {exactly}{event.total} steps, {event.steps} an epoch"
        kernels = f", {recipe.kernels} kernels" if recipe.kernels != "torch" else ""
        remarks.print(f"  time     {length}, {recipe.precision} on {plan.device}{kernels}")
        remarks.print(f"  run      {event.run} (Ctrl-C stops and keeps it)")
        if event.resumed_epoch is not None:
            remarks.print(f"  resumed  in epoch {event.resumed_epoch + 1} after {event.resumed_step} steps")
        remarks.print(
            f"\n{'epoch':>9}  {'loss':>7}  {'accuracy':>9}  {'held out':>9}  {'images/s':>8}  {'waited':>6}  time left"
        )
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[facts]}"),
                console=remarks, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=event.steps, facts="")
            self._bar.start()

    def _step(self, event: Stepped) -> None:
        facts = (
            f"loss {event.loss:.3f} · accuracy {percent(event.accuracy)} · "
            f"{event.images_per_second:.0f} images/s · {duration(event.seconds_left)} left"
        )
        where = f"{event.epoch:>4}/{event.epochs:<4}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=event.step, total=event.steps, description=where, facts=facts)
        elif time.monotonic() - self._last_line > _SILENCE:
            remarks.print(f"{where}  step {event.step}/{event.steps}: {facts}")
            self._last_line = time.monotonic()

    def _epoch(self, event: EpochEnded) -> None:
        held = percent(event.val_score) if event.val_score is not None else "–"
        remarks.print(
            f"{event.epoch:>4}/{event.epochs:<4}  {event.loss:7.3f}  {percent(event.accuracy):>9}  {held:>9}  "
            f"{event.images_per_second:8.0f}  {event.waited:>6.0%}  {duration(event.seconds_left)}"
            f"{'  best' if event.best else ''}"
        )
        self._last_line = time.monotonic()


def balance_lines(images: tuple[int, ...], plan: Plan) -> list[str]:
    """What is done about classes of unequal size, or that something could be."""
    if not images:
        return []
    recipe, names = plan.recipe, plan.data.class_names or tuple(map(str, range(len(images))))
    few, many = min(range(len(images)), key=images.__getitem__), max(range(len(images)), key=images.__getitem__)
    if recipe.balance == "none":
        uneven = images[many] >= _UNEVEN * max(1, images[few])
        sizes = f"{images[few]} images of {names[few]}, {images[many]} of {names[many]}"
        return [f"  balance  none: {sizes}; --balance loss or sampler makes rare classes count"] if uneven else []
    weights = class_weights(np.array(images), recipe.balance_beta)
    how = "in the loss" if recipe.balance == "loss" else "drawn"
    shown = [f"{names[index]} ({images[index]} images) ×{weights[index]:.2f}" for index in (few, many)]
    return [f"  balance  {how}: {' to '.join(shown)} (effective numbers, β {recipe.balance_beta:g})"]


def _input(plan: Plan) -> str:
    """What the network sees: sizes and what chance does to the pictures."""
    recipe = plan.recipe
    height, width = plan.preprocess.size
    sizes = f"{height}×{width} px"
    if recipe.test_size and recipe.image_size:
        sizes = f"{recipe.image_size} px, tested at {sizes}"
    if recipe.early_sizes:
        early = " and ".join(f"{share:.0%}" for share in recipe.early_sizes)
        sizes += f" (at first {early} of it)"
    padded = recipe.augmentation == "small" and recipe.padding_mode != "constant"
    cut = _AUGMENTATION[recipe.augmentation] + (f" (padding: {recipe.padding_mode})" if padded else "")
    ways = [cut + (" and mirror" if recipe.flip else "")]
    ways += {"none": [], "trivial": ["TrivialAugment"], "rand": ["RandAugment"]}[recipe.auto_augment]
    given = {
        "erasing": recipe.erasing, "mixup": recipe.mixup, "CutMix": recipe.cutmix, "colour": recipe.colour_jitter,
        "greyscale": recipe.greyscale,
    }  # fmt: skip
    ways += [name for name, value in given.items() if value]
    return f"{sizes}, {', '.join(ways)}{_WHOLE[plan.preprocess.crop_mode]}"


def _recipe(recipe: Recipe) -> str:
    """How the weights are changed."""
    pieces = f" in {recipe.accumulate} pieces" if recipe.accumulate > 1 else ""
    words = [f"{recipe.optimiser} at rate {recipe.lr:.4g} ({recipe.schedule}), batch {recipe.batch_size}{pieces}"]
    if recipe.head_epochs:
        words.append(f"the classifier alone for {recipe.head_epochs:g} epochs")
    if recipe.freeze != "none":
        words.append(f"frozen up to {recipe.freeze}")
    if recipe.freeze_norm:
        words.append("norms keep their statistics")
    if recipe.mirrored_weights:
        words.append("weights that mirror each other")
    if recipe.ema_decay:
        words.append("the model is an average of the weights")
    return ", ".join(words)
