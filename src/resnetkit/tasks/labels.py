"""Labels travel by name: how a data set's classes meet a model's."""

from collections.abc import Sequence
from dataclasses import dataclass

from resnetkit.catalog.imagenet import class_names, name_of_wnid, wnids
from resnetkit.errors import LabelMismatch


@dataclass(frozen=True)
class LabelMap:
    """`to_model[i]` is the model's class index of the data set's class `i`; `note` says how they were matched."""

    to_model: tuple[int, ...]
    note: str | None = None


def match_labels(
    model_names: Sequence[str] | None, num_classes: int, data_names: Sequence[str] | None, data_classes: int
) -> LabelMap:
    """Match by name; where one side has no names, equal counts are compared by index and the note says so.

    A data set may hold fewer classes than the model knows, never one that the model does not know.

    >>> match_labels(("cat", "dog", "fox"), 3, ("fox", "cat"), 2).to_model
    (2, 0)
    """
    if model_names is None or data_names is None:
        if num_classes != data_classes:
            silent = "model" if model_names is None else "data set"
            raise LabelMismatch(
                f"the model has {num_classes} classes, the data {data_classes}, and the {silent} does not name them: "
                "give the names with --class-names FILE (one a line, in the model's order)"
            )
        return LabelMap(
            tuple(range(data_classes)),
            f"classes compared by index: the {'model' if model_names is None else 'data set'} does not name them",
        )
    if tuple(model_names) == class_names() and set(data_names) <= set(wnids()):
        data_names = [name_of_wnid()[wnid] for wnid in data_names]  # ImageNet's folders are named by WordNet ids
    index = {name: position for position, name in enumerate(model_names)}
    unknown = [name for name in data_names if name not in index]
    if unknown:
        unused = [name for name in model_names if name not in set(data_names)]
        raise LabelMismatch(
            f"the data has {len(unknown)} of {len(data_names)} classes that the model does not know: "
            f"{_names(unknown)}; "
            f"the model's classes not in the data: {_names(unused)}; rename the folders to the model's names"
        )
    mapped = tuple(index[name] for name in data_names)
    note = None if len(mapped) == num_classes else f"the data holds {len(mapped)} of the model's {num_classes} classes"
    return LabelMap(mapped, note)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
