"""What a range test found, as a table, and the command to go on with."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resnetkit.tables import aligned

if TYPE_CHECKING:
    from resnetkit.training.rate_finding import FoundRate

_ROWS = 12


def rate_table(found: "FoundRate") -> str:
    """A few of the steps, and the rates that are read off them."""
    last = len(found.rates) - 1
    shown = {round(row * last / (_ROWS - 1)) for row in range(_ROWS)}
    marks = {found.steepest: "steepest fall", found.lowest: "lowest loss"}
    places = {min(range(last + 1), key=lambda step: abs(found.rates[step] - rate)): rate for rate in marks}
    rows = [
        (f"{found.rates[step]:.2g}", f"{found.smoothed[step]:.3f}", marks[places[step]] if step in places else "")
        for step in sorted(shown | places.keys())
    ]
    return "\n".join(aligned(("rate", "loss", ""), rows, left=3))


def train_words(data: str | None, given: Mapping[str, Any]) -> str:
    """The command that trains with these flags; those that are not given are None.

    >>> train_words("my photos", {"flip": False, "early_sizes": (0.5, 0.75), "lr": 0.1, "seed": None})
    "resnetkit train 'my photos' --no-flip --early-sizes 0.5 0.75 --lr 0.1"
    """
    words = ["resnetkit", "train", *([data] if data else [])]
    for name, value in given.items():
        flag = name.replace("_", "-")
        if value is True or value is False:
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)
