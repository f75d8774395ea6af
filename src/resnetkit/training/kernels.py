"""Machine code of `normalisation.cpp`: made by this machine's own compiler when first wanted, kept in the user's cache.

Without a compiler nothing is lost but speed: `unavailable()` says why, and training runs on torch's own operations.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

from resnetkit.data.places import cache_folder
from resnetkit.errors import WriteFailed

_FLAGS = ("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math")
_POINTER, _INT64, _DOUBLE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
_ARGUMENTS = {
    "forward": [*[_POINTER] * 7, _DOUBLE, _DOUBLE, _INT, _POINTER, _POINTER, _INT64, _INT64, _INT],
    "backward": [*[_POINTER] * 10, _INT, _INT64, _INT64, _INT],
}


class Unavailable(Exception):
    """Why there are no kernels here, in a few words."""


@cache
def unavailable() -> str | None:
    """Why there are no kernels on this machine, or None where there are."""
    try:
        library()
    except Unavailable as why:
        return str(why)
    return None


@cache
def library() -> ctypes.CDLL:
    """The kernels; the first call on a machine takes about two seconds. Raises Unavailable."""
    if not sys.platform.startswith("linux"):
        raise Unavailable(f"they are made for Linux, not {sys.platform}")
    try:
        made = ctypes.CDLL(str(_built()))
    except (OSError, WriteFailed) as error:
        raise Unavailable(str(error)) from error
    for name in ("bfloat16", "float32"):
        for direction, arguments in _ARGUMENTS.items():
            function = getattr(made, f"{name}_{direction}")
            function.argtypes, function.restype = arguments, None
    return made


def _built() -> Path:
    """The shared object for this source, compiler and processor, compiled unless it lies there."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise Unavailable("there is no C++ compiler (g++ or clang++)")
    source = resources.files("resnetkit.training").joinpath("normalisation.cpp").read_bytes()
    openmp = _openmp()
    key = hashlib.sha256(b"\0".join([source, compiler.encode(), *map(str.encode, (*_FLAGS, openmp)), _processor()]))
    folder = cache_folder() / "kernels"
    built = folder / f"normalisation-{key.hexdigest()[:16]}.so"
    if built.exists():
        return built
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as place:  # beside its end, so that moving it there is atomic
        source_file, new = Path(place, "normalisation.cpp"), Path(place, built.name)
        source_file.write_bytes(source)
        # Compiled with OpenMP but linked to the runtime that torch brought, so that both use the same threads.
        commands = (
            [compiler, *_FLAGS, "-fopenmp", "-fPIC", "-c", str(source_file), "-o", str(new) + ".o"],
            [compiler, "-shared", str(new) + ".o", openmp, "-o", str(new)],
        )
        for command in commands:
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            except (subprocess.SubprocessError, OSError) as error:
                said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
                raise Unavailable(f"{compiler} failed: {said[0] if said else 'without a word'}") from error
        new.replace(built)
    return built


def _openmp() -> str:
    """The OpenMP runtime that torch has loaded into this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split()[-1]
        if "libgomp" in Path(path).name:
            return path
    raise Unavailable("torch was built without GNU OpenMP")


def _processor() -> bytes:
    """What decides on the machine code that `-march=native` means."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})).encode()
