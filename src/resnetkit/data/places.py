"""Where this package keeps what it can make or fetch again."""

import os
from pathlib import Path

from resnetkit.errors import WriteFailed

ELSEWHERE = "name another folder with RESNETKIT_CACHE"
"""what to do where this one cannot be written"""


def cache_folder() -> Path:
    """$RESNETKIT_CACHE, else `resnetkit` in the user's own cache; WriteFailed where there is no home to have one in."""
    named = os.environ.get("RESNETKIT_CACHE")
    own = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(named or os.path.join(own, "resnetkit")).expanduser()
    except RuntimeError as error:
        raise WriteFailed("this user has no home folder to keep anything in: name one with RESNETKIT_CACHE") from error
