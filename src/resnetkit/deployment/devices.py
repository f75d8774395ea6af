"""Where to compute when nobody said."""

import torch

from resnetkit.errors import InvalidArgument


def best_device(named: str | None) -> str:
    """The device that was named, if it is there; else a GPU if there is one, else the processor."""
    if named is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(named)).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgument(
            f"device {named} cannot be used here ({reason}): try cpu, or leave --device out"
        ) from error
    return named
