"""Too little memory in training: found and answered as `tasks.memory` says."""

from resnetkit.tasks.memory import OutOfMemory, has_memory_for, in_pieces, smaller_pieces

__all__ = ["OutOfMemory", "has_memory_for", "in_pieces", "smaller_pieces"]
