"""Packages that only some verbs need: when one is missing, the error names the extra that brings it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from resnetkit.errors import MissingExtra

Extra = Literal["onnx", "openvino", "int8"]


@contextmanager
def needs(extra: Extra, what: str) -> Iterator[None]:
    """Around the imports of an extra: a missing package becomes `MissingExtra`, which says what wanted it.

    >>> with needs("onnx", "an ONNX model"):
    ...     import no_such_package
    Traceback (most recent call last):
    ...
    resnetkit.errors.MissingExtra: an ONNX model needs no_such_package: pip install "resnetkit[onnx]"
    """
    try:
        yield
    except ImportError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise MissingExtra(f'{what} needs {missing}: pip install "resnetkit[{extra}]"') from error


def silent_openvino() -> Any:
    """The package, kept from reporting over the network what it is used for, as it does by default."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so that importing it fails
    with needs("openvino", "an OpenVINO model"):
        import openvino
    return openvino
