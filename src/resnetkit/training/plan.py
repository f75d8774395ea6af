"""All that a run needs to be run again, resolved: nothing in it is left to be decided. Written as `recipe.yaml`."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from resnetkit.catalog.architectures import Architecture, row_from_dict, row_to_dict
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Kernels, Precision, Recipe, recipe_from_dict
from resnetkit.catalog.tasks import Task
from resnetkit.checkpoints.atomic import write_text_atomically
from resnetkit.errors import InvalidArgument, RunError


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """Which images: the source as the user named it, its fingerprint, its classes and how it was split."""

    source: str
    fingerprint: str
    class_names: tuple[str, ...] | None
    num_classes: int
    val_share: float
    split_seed: int
    task: Task = "classification"
    skip_broken: bool = False
    cache_side: int | None = None
    """the short side at which decoded pixels are kept on disk; None: files are decoded anew in each epoch"""
    together: tuple[tuple[int, ...], ...] = ()
    """training images, by their index as found, that are copies of each other and so went to one side of the split"""


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """Which network: its catalogue name if it has one, and its row, which is what counts."""

    name: str | None
    row: Architecture
    in_chans: int
    weights: str | None = None
    """the model file or checkpoint it starts from; None: random weights by the seed"""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The time a run may take, and what was measured to fit into it. It stands in for the recipe's epochs."""

    minutes: float
    steps: int
    """in all; exact where the run is deterministic, else an estimate that the clock corrects"""
    validate_every: int = 1
    """epochs from one validation to the next, so that validating costs little; the last epoch always is"""
    validating: float = 0.0
    """seconds that a validation is expected to take"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run before its first step."""

    data: DataPlan
    model: ModelPlan
    recipe: Recipe
    preprocess: Preprocess
    seed: int
    device: str
    deterministic: bool
    budget: Budget | None = None
    """None: as many epochs as the recipe says"""

    def with_machine(self, *, precision: Precision, kernels: Kernels) -> "Plan":
        """The plan after what is fastest on this machine is known."""
        return replace(self, recipe=replace(self.recipe, precision=precision, kernels=kernels))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "data": _lists(asdict(self.data)),
            "model": {**_lists(asdict(self.model)), "row": row_to_dict(self.model.row)},
            "recipe": self.recipe.to_dict(),
            "preprocess": self.preprocess.to_dict(),
            "seed": self.seed,
            "device": self.device,
            "deterministic": self.deterministic,
            "budget": None if self.budget is None else asdict(self.budget),
        }

    def flat(self) -> dict[str, Any]:
        """The same without mappings in it, by names such as `recipe.lr`."""
        return _flat(self.to_dict())

    def write(self, path: Path) -> None:
        """Write it as YAML, atomically."""
        text = "# Everything this run needs to be run again: resnetkit train --recipe recipe.yaml\n"
        text += yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        write_text_atomically(path, text)

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """The plan in a `recipe.yaml` that `write` wrote; RunError if it is none."""
        values = read_yaml(path)
        try:
            data, model = dict(values["data"]), dict(values["model"])
            names = data["class_names"]
            together = tuple(tuple(group) for group in data.get("together", ()))
            return cls(
                data=DataPlan(**{**data, "class_names": None if names is None else tuple(names), "together": together}),
                model=ModelPlan(**{**model, "row": row_from_dict(model["row"])}),
                recipe=recipe_from_dict(_recipe_of(values)),
                preprocess=Preprocess.from_dict(values["preprocess"]),
                **{key: values[key] for key in ("seed", "device", "deterministic")},
                budget=Budget(**values["budget"]) if values.get("budget") else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{path} is not the recipe of a run ({error}): was it edited? Train anew with the flags"
            ) from error


class _Loader(yaml.SafeLoader):
    """Safe, and 1e-3 is a number, as in YAML 1.2; in 1.1, which PyYAML reads, it needs a dot."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; one clear error otherwise."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"the recipe {path} cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise InvalidArgument(f"the recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InvalidArgument(
            f"the recipe {path} holds no fields: write one `name: value` a line, such as `epochs: 10`"
        )
    return values


def recipe_fields(path: Path) -> dict[str, Any]:
    """The recipe's fields in a YAML file: those of a run's whole `recipe.yaml`, or a few written by hand."""
    values = read_yaml(path)
    chosen = _recipe_of(values) if isinstance(values.get("recipe"), dict) else values
    recipe_from_dict(chosen)  # unknown names and impossible values raise here
    return dict(chosen)


def _recipe_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's fields in a run's `recipe.yaml`. The first runs had `val_share` beside the data alone."""
    data = values.get("data")
    beside = {"val_share": data["val_share"]} if isinstance(data, dict) and "val_share" in data else {}
    return {**beside, **values["recipe"]}


def is_plan(path: Path) -> bool:
    """Whether this YAML file is the recipe of a whole run, data and network included."""
    return {field.name for field in fields(Plan) if field.default is MISSING} <= set(read_yaml(path))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _lists(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
