"""Too little memory: how it is told from other errors, what to do then, and what to say when nothing helps."""

import gc
import math

import torch

from resnetkit.errors import RunError

_SHORTAGES = (
    "can't allocate memory", "not enough memory", "out of memory",
    # What oneDNN says on a processor when it cannot have the memory for its own work.
    "could not create a primitive", "could not create a memory", "could not execute a primitive",
)  # fmt: skip


class OutOfMemory(RunError):
    """Not even the smallest pieces of a batch fit into memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that there is too little memory, on a device or on the host.

    >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    True
    >>> is_out_of_memory(RuntimeError("shape mismatch"))
    False
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in _SHORTAGES)


def smaller_pieces(pieces: int, images: int, shortage: str) -> int:
    """In how many pieces to compute a batch of `images` for which `pieces` were too few. Raises OutOfMemory.

    To be called when nothing holds on to the tensors of the attempt: not where its error is handled.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if 2 * pieces > images // 2:
        raise OutOfMemory(
            f"there is too little memory even for {math.ceil(images / pieces)} images at once ({shortage}): "
            "give a smaller --image-size or --model"
        )
    return 2 * pieces
