"""Flags that several verbs share, as dataclasses that become flags, and the readers of their values."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from resnetkit.errors import InvalidArgument

if TYPE_CHECKING:
    from resnetkit.deployment.exports.acceptance import Bounds
    from resnetkit.deployment.stated import Stated

Switch = Annotated[bool, Parameter(show_default=False)]
"""off unless given, which needs no saying"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """What every verb takes."""

    json: Switch = False
    """Print one JSON value on stdout and everything else on stderr."""
    debug: Switch = False
    """Show the traceback of an error."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AskingFlags:
    """How a model is asked about pictures: by what, in what, where, and how often. `vars` of it are api's arguments."""

    tta: Literal["none", "flip", "shifts"] = "none"
    """Test-time augmentation: flip answers with the mean of a picture and its mirror image, in twice the time; shifts
    of both also moved to either side by a thirty-second (a pixel of 32), in six times the time."""
    backend: Literal["auto", "torch", "compile", "onnxruntime", "openvino"] = "auto"
    """What computes: auto tries torch and the runtimes installed, when there is much to do, and remembers the quickest.
    compile takes about a minute before its first answer. All but torch compute on the CPU."""
    precision: Literal["float32", "bf16", "auto"] = "float32"
    """float32 is exact; bf16 is faster where the processor has it; auto is the faster, if it says the same."""
    device: str | None = None
    """cpu, cuda or cuda:1 (default: a GPU if there is one)."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BoundsFlags:
    """How far a file may be from the network that it stands for."""

    max_loss: float = 0.5
    """Points of accuracy that it may lose."""
    min_agreement: float = 99.0
    """Percent of the pictures for which both must say the same."""


def bounds_by(flags: BoundsFlags) -> "Bounds":
    """The flags' values, as shares of one."""
    from resnetkit.deployment.exports.acceptance import Bounds

    return Bounds(max_loss=flags.max_loss / 100, min_agreement=flags.min_agreement / 100)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StatedFlags:
    """What a foreign checkpoint or a bare architecture cannot say of itself."""

    mean: Annotated[str | None, Parameter(show_default=False)] = None
    """Mean of each channel, as R,G,B between 0 and 1, where the model file does not say (default: ImageNet's)."""
    std: Annotated[str | None, Parameter(show_default=False)] = None
    """Standard deviation of each channel, as R,G,B."""
    image_size: int | None = None
    """Side of the square the network sees, in pixels."""
    crop_mode: Literal["centre", "squash", "pad"] | None = None
    """What it sees of a picture: its middle, all of it pressed into the square, or all of it with the rest filled."""
    class_names: Path | None = None
    """File with the class names, one a line, in the order of the model's outputs."""
    architecture: str | None = None
    """The architecture of a foreign checkpoint, where its shapes fit two (plain20 and resnet20)."""
    stride_at: Literal["conv1", "conv2"] | None = None
    """Where a foreign bottleneck strides: conv1 (the paper, Caffe) or conv2 (everybody since)."""


def stated_by(flags: StatedFlags) -> "Stated":
    """The flags' values, read."""
    from resnetkit.deployment.stated import Stated

    return Stated(
        mean=_numbers(flags.mean, "mean"),
        std=_numbers(flags.std, "std"),
        image_size=flags.image_size,
        crop_mode=flags.crop_mode,
        class_names=_names(flags.class_names),
        architecture=flags.architecture,
        stride_at=flags.stride_at,
    )


def _numbers(text: str | None, flag: str) -> tuple[float, ...] | None:
    """The numbers of R,G,B (or one, for grey)."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise InvalidArgument(f"--{flag} {text}: write three numbers as 0.485,0.456,0.406, or one for grey images")
    return numbers


def _names(path: Path | None) -> tuple[str, ...] | None:
    """The lines of a file of class names; empty lines at the end do not count."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"--class-names {path} cannot be read ({error}): give a text file, one name a line"
        ) from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if len(set(names)) != len(names) or not all(names):
        raise InvalidArgument(f"--class-names {path} has an empty or repeated line: each class needs a name of its own")
    return names
