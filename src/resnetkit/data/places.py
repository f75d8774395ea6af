"""Where this package keeps what it can make or fetch again."""

import os
from pathlib import Path
from typing import Literal


def kept_in(what: Literal["pixels", "data"]) -> Path:
    """A folder below $RESNETKIT_CACHE, else below the user's cache folder: decoded pixels, or downloaded data sets."""
    home = os.environ.get("RESNETKIT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "resnetkit"
    )
    return Path(home).expanduser() / what
