"""Find a learning rate for a training before it is begun."""

import os
from pathlib import Path
from typing import Any

from resnetkit.api.preparing import made_ready, prepare
from resnetkit.catalog.architectures import Architecture
from resnetkit.catalog.recipe import Recipe
from resnetkit.errors import InvalidArgument
from resnetkit.training.processes import joined
from resnetkit.training.progress import Listener, Preparing, nobody
from resnetkit.training.rate_finding import FoundRate, find_rate


def find_lr(
    data: str | os.PathLike[str] | None = None,
    *,
    model: str | Path | Architecture | None = None,
    pretrained: bool = False,
    recipe: str | Path | Recipe | None = None,
    seed: int | None = None,
    skip_broken: bool = False,
    cache: bool = False,
    deterministic: bool = False,
    device: str | None = None,
    workers: int | None = None,
    listener: Listener = nobody,
    **fields: Any,
) -> FoundRate:
    """The peak rate at which `train` with the same arguments should learn, from a hundred steps at rising rates.

    No run is begun and nothing of the trials is kept. Raises what `train` raises before its first step, RunError where
    the loss falls at no rate, and OutOfMemory.
    """
    prepared = prepare(
        data, model=model, pretrained=pretrained, recipe=recipe, seed=seed, skip_broken=skip_broken, cache=cache,
        deterministic=deterministic, device=device, workers=workers, listener=listener, **fields,
    )  # fmt: skip
    with joined() as processes:
        if processes.count > 1:
            raise InvalidArgument("a learning rate is found by one process: leave out torchrun")
        ready = made_ready(prepared, workers, processes, listener)

        def tell(done: int, total: int) -> None:
            listener(Preparing("trying rates", done, total))

        return find_rate(ready.network, ready.plan, ready.train, tell)
