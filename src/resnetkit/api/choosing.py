"""What a person named for training, found: the recipe and the network, by name, row or file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from resnetkit.catalog.architectures import ARCHITECTURES, Architecture, architecture, name_of
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.pretrained import pretrained as published
from resnetkit.catalog.recipe import Recipe, recipe_from_dict
from resnetkit.catalog.recipes import RECIPES, NamedRecipe
from resnetkit.checkpoints.modelfile import is_model_file
from resnetkit.data.dataset import DataSet
from resnetkit.data.known import Progress
from resnetkit.data.opening import open_data, with_validation
from resnetkit.data.scanning import scan
from resnetkit.deployment.opening import open_model
from resnetkit.errors import InvalidArgument, UnknownName
from resnetkit.training.plan import Plan, is_plan, recipe_fields
from resnetkit.training.planning import ImageFacts, default_model, default_recipe, own_fields, resolve_recipe

ENOUGH_HELD_OUT = 200
"""images, of which the share that is right is known to 2 or 3 points"""


@dataclass(frozen=True)
class ShownRecipe:
    """A recipe before it is used: `name` and `about` where it has them."""

    name: str | None
    about: NamedRecipe | None
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """The recipe's fields."""
        return self.recipe.to_dict()

    def to_yaml(self) -> str:
        """A file that `--recipe` reads, with what is known of the recipe in its first lines."""
        about = self.about
        lines = (
            [f"# {self.name}: {about.summary}", f"# source: {about.source}", f"# result: {about.result}"]
            if about
            else []
        )
        return "\n".join([*lines, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)])


def show_recipe(
    data: str | os.PathLike[str] | None = None,
    *,
    model: str | Path | Architecture | None = None,
    pretrained: bool = False,
    recipe: str | Path | Recipe | None = None,
    progress: Progress | None = None,
    **fields: Any,
) -> ShownRecipe:
    """The recipe that `train` would follow with these arguments; without `data` what depends on it stays None."""
    overrides = {key: value for key, value in fields.items() if value is not None}
    base = named_recipe(recipe)
    recipe_from_dict({**base.fields, **overrides})
    start = None if model is None else named_model(published_name(model) if pretrained else model)
    if data is not None:
        dataset = open_data(data, val_share=0, progress=progress)
        overrides["val_share"] = share_to_hold_out(base, overrides, len(dataset.split("train")))
        dataset = with_validation(dataset, 0, overrides["val_share"])
        parts = [dataset.splits[part] for part in ("train", "val") if part in dataset.splits]
        total = sum(len(source) for source in parts)
        tell = (lambda done: progress("looking at the images", done, total)) if progress else None
        found = scan(*parts, progress=tell)
        images = ImageFacts(found.height, found.width)
        name = default_recipe(images, start is not None and start.weights is not None)
        chosen, _ = choose(dataset, images, base, start, overrides)
    elif recipe is not None:
        name, chosen = "", overridden(base, start, Recipe(), overrides)
    elif start is not None and start.weights is not None:
        name = "finetune"
        chosen = overridden(base, start, RECIPES[name].recipe, overrides)
    else:
        raise InvalidArgument(f"which recipe? Give DATA, or a --recipe: {', '.join(RECIPES)}, or a YAML file")
    shown = str(recipe) if str(recipe) in RECIPES else name if recipe is None else None
    return ShownRecipe(shown, RECIPES[shown] if shown else None, chosen)


def published_name(model: str | Path | Architecture | None) -> str:
    """The published weights of the architecture that `model` names."""
    if not isinstance(model, str):
        raise InvalidArgument("pretrained starts from published weights: name their --model, such as resnet50")
    return published(model).name


def former_plan(recipe: str | Path | Recipe | None) -> Plan | None:
    """The whole plan in the `recipe.yaml` of a run, if that is what was named."""
    if isinstance(recipe, str | Path) and Path(recipe).is_file() and is_plan(Path(recipe)):
        return Plan.read(Path(recipe))
    return None


@dataclass(frozen=True)
class Start:
    """A network before training: its name and row, the file of its first weights, and what those know of pictures."""

    name: str | None
    row: Architecture
    weights: str | None = None
    known: Preprocess | None = None
    """how the first weights' pictures were made ready"""
    assumed: bool = False
    """whether that is but the usual, because a stranger's file does not say"""


@dataclass(frozen=True)
class Base:
    """The fields that a named recipe, a row or a file gives, and whether they were written for other data."""

    fields: dict[str, Any]
    published: bool = False


def named_recipe(recipe: str | Path | Recipe | None) -> Base:
    """The fields of a recipe by its name, row or file; none where none was named."""
    if recipe is None:
        return Base({})
    if isinstance(recipe, Recipe):
        return Base(recipe.to_dict())
    if Path(recipe).is_file():
        return Base(recipe_fields(Path(recipe)))
    if str(recipe) in RECIPES:
        return Base(RECIPES[str(recipe)].recipe.to_dict(), published=True)
    raise UnknownName("recipe", str(recipe), RECIPES, "(a name, or the path of a YAML file)")


def said(base: Base, start: Start | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that somebody said: in overrides, a row or a file; else the first weights; else a published recipe."""
    own = own_fields(start.known) if start is not None and start.known is not None and not start.assumed else {}
    return {**(base.fields | own if base.published else own | base.fields), **overrides}


def share_to_hold_out(base: Base, overrides: Mapping[str, Any], images: int) -> float:
    """The share of `images` to choose the best epoch by: what somebody said, else a published recipe's.

    A published recipe may hold out less than the usual tenth only where that is enough to choose by.

    >>> small = Base({"val_share": 0.02}, published=True)
    >>> [share_to_hold_out(small, {}, images) for images in (500, 5_000, 50_000)]
    [0.1, 0.04, 0.02]
    """
    share: float = said(base, None, overrides).get("val_share", Recipe.val_share)
    if base.published and "val_share" not in overrides:
        share = max(share, min(Recipe.val_share, ENOUGH_HELD_OUT / images))
    return share


def overridden(base: Base, start: Start | None, default: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with some fields replaced; where its batch size is, but not its rate, the rate follows."""
    recipe = recipe_from_dict({**default.to_dict(), **said(base, start, {})})
    if "batch_size" in overrides and "lr" not in overrides:
        recipe = recipe.with_batch(overrides["batch_size"])
    return recipe_from_dict({**recipe.to_dict(), **overrides})


def _of_several_labels(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """Each class is a yes or no of its own, and a label is not less certain for there being many classes."""
    if overrides.get("loss", "bce") != "bce":
        raise InvalidArgument(f"loss {overrides['loss']} takes one label an image, and these have several: use bce")
    return replace(recipe, loss="bce", label_smoothing=overrides.get("label_smoothing", 0.0))


def choose(
    dataset: DataSet, images: ImageFacts, base: Base, named: Start | None, overrides: Mapping[str, Any]
) -> tuple[Recipe, Start]:
    """The recipe with nothing left open, and the network that it starts from."""
    weights = named is not None and named.weights is not None
    recipe = overridden(base, named, RECIPES[default_recipe(images, weights)].recipe, overrides)
    if dataset.several_labels:
        recipe = _of_several_labels(recipe, overrides)
    start = named or named_model(recipe.model or default_model(images))
    for_this = not base.published or "batch_size" in overrides
    recipe = resolve_recipe(recipe, images, dataset, weights=start.weights is not None, batch_stated=for_this)
    # A network that somebody named stays, and so do weights.
    stays = start.weights is not None or (named is not None and "larger_models" not in overrides)
    return replace(recipe, model=start.name, larger_models=() if stays else recipe.larger_models), start


def named_model(model: str | Path | Architecture) -> Start:
    """The network that a name, a row, a file or a run's folder gives."""
    if not isinstance(model, str | Path):
        return Start(name_of(model), model)
    if not Path(model).exists() and str(model) in ARCHITECTURES:
        return Start(str(model), architecture(str(model)))
    found = open_model(model)
    here = Path(model).exists()
    weights = os.path.abspath(model) if here else str(model)
    assumed = here and found.source is not None and not is_model_file(found.source)
    return Start(found.card.architecture, found.card.row, weights, found.preprocess, assumed)
