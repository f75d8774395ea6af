"""Too little memory: how it is told from other errors, what to do then, and what to say when nothing helps.

Nothing here imports torch, so that an exported model is used without it.
"""

import gc
import math
import sys
from collections.abc import Callable
from typing import TypeVar

from resnetkit.errors import ResnetkitError

Value = TypeVar("Value")

_SHORTAGES = (
    "can't allocate memory", "not enough memory", "out of memory",
    # ONNX Runtime and C++.
    "failed to allocate memory", "bad_alloc",
    # What oneDNN says on a processor when it cannot have the memory for its own work.
    "could not create a primitive", "could not create a memory", "could not execute a primitive",
)  # fmt: skip


class OutOfMemory(ResnetkitError):
    """Not even the smallest pieces of a batch fit into memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory, on a device or on the host.

    >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    True
    >>> is_out_of_memory(RuntimeError("shape mismatch"))
    False
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in _SHORTAGES)


def in_pieces(attempt: Callable[[int], Value], pieces: int, more: Callable[[int, str], int]) -> tuple[Value, int]:
    """What `attempt` gives with so many pieces, and their number: as many as it takes.

    Where memory is too little, `more` says how many to try next, of the pieces that were too few and the error's words.
    """
    while True:
        try:
            return attempt(pieces), pieces
        except Exception as error:  # each runtime has an exception of its own
            if not is_out_of_memory(error):
                raise
            shortage = (str(error) or type(error).__name__).splitlines()[0]
        # Out of the handler, whose traceback holds on to the tensors of the attempt.
        pieces = more(pieces, shortage)


def has_memory_for(attempt: Callable[[], object]) -> bool:
    """Whether there is memory for what `attempt` does."""
    try:
        attempt()
        return True
    except Exception as error:  # each runtime has an exception of its own
        if not is_out_of_memory(error):
            raise
    _let_go()
    return False


def smaller_pieces(
    pieces: int, images: int, shortage: str, *, least: int = 2, advice: str = "give a smaller --image-size or --model"
) -> int:
    """In how many pieces, of `least` images or more, to compute a batch of `images` for which `pieces` were too few.

    To be called when nothing holds on to the tensors of the attempt: not where its error is handled. Raises OutOfMemory
    with the advice.
    """
    _let_go()
    more = min(2 * pieces, images // least)
    if more <= pieces:
        at_once = math.ceil(images / pieces)
        many = "one image" if at_once == 1 else f"{at_once} images at once"
        raise OutOfMemory(f"there is too little memory even for {many} ({shortage}): {advice}")
    return more


def _let_go() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
