"""How an image becomes a network's input: one frozen row, computed sizes explicit.

The row is stored in every model file. It is executed by torch on uint8 (`data.transforms`), by Pillow in tests, and
as a graph inside exports; all three must agree within one grey level.
"""

from dataclasses import asdict, dataclass, fields, replace
from math import floor
from typing import Any, Literal, get_args

from resnetkit.errors import InvalidArgument

CropMode = Literal["centre", "squash", "pad"]
Rounding = Literal["floor", "round"]
Interpolation = Literal["bilinear", "bicubic"]

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""mean and std, channel by channel, in shares of 1"""

_LARGEST_SIDE = 2**14  # pixels: no network is asked for more, and memory ends before
_NO_SHARE = 1e6  # where somebody meant grey levels the network's input is odd, beyond this it is no number

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def usual_normalisation(channels: int) -> Normalisation:
    """Mean and std where nobody stated any: ImageNet's, or their averages over the colours for grey images."""
    if channels == 1:
        return (round(sum(IMAGENET_MEAN) / 3, 4),), (round(sum(IMAGENET_STD) / 3, 4),)
    return IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Evaluation preprocessing: resize, crop, scale to 0–1, subtract mean, divide by std. RGB, or one grey channel.

    `crop_mode` "centre": the short side is resized to `resize`, the long side follows and is cut (`rounding="floor"`,
    as torchvision does) or rounded, then the middle `size` is taken. "squash": both sides are resized to `size`.
    "pad": the whole image is fitted into `size` and the rest filled with the mean colour.

    >>> Preprocess.for_size(224, crop_share=0.875).resize
    256
    >>> Preprocess.for_size(224, crop_share=0.875).resized(375, 500)
    (256, 341)
    """

    size: tuple[int, int]
    """height, width of the network's input"""
    resize: int
    """the short side after resizing, before the crop (used by "centre" alone)"""
    crop_mode: CropMode = "centre"
    rounding: Rounding = "floor"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 1 <= min(self.size) <= max(self.size) <= _LARGEST_SIDE or self.resize < 1:
            raise InvalidArgument(
                f"image size {self.size} with resize {self.resize}: sides are 1 to {_LARGEST_SIDE} pixels"
            )
        if self.crop_mode not in get_args(CropMode):
            raise InvalidArgument(f"crop mode {self.crop_mode!r} is none of {', '.join(get_args(CropMode))}")
        if self.crop_mode == "centre" and self.resize < min(self.size):
            raise InvalidArgument(
                f"resize {self.resize} is smaller than the crop {self.size}: use at least {max(self.size)}"
            )
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise InvalidArgument(
                f"mean {self.mean} and std {self.std} need one value (grey) or three (red, green, blue) each"
            )
        if not all(abs(value) < _NO_SHARE for value in (*self.mean, *self.std)):
            raise InvalidArgument(f"mean {self.mean} and std {self.std} are shares of 1, such as 0.485")
        if min(self.std) <= 0:
            raise InvalidArgument(f"std {self.std} must be positive: pixels are divided by it")

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return len(self.mean)

    @classmethod
    def for_size(
        cls,
        size: int | tuple[int, int],
        *,
        crop_share: float = 1.0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        interpolation: Interpolation = "bilinear",
        crop_mode: CropMode = "centre",
        rounding: Rounding = "floor",
    ) -> "Preprocess":
        """The row whose crop is `crop_share` of the resized image's short side (0.875 of 256 is 224)."""
        height, width = (size, size) if isinstance(size, int) else size
        if not 0 < crop_share <= 1:
            raise InvalidArgument(f"crop share {crop_share} is not between 0 and 1: 0.875 keeps the middle 7/8")
        resize = max(_whole(min(height, width) / crop_share), max(height, width) if height != width else 0)
        return cls(
            size=(height, width), resize=resize, crop_mode=crop_mode, rounding=rounding,
            interpolation=interpolation, mean=mean, std=std,
        )  # fmt: skip

    @property
    def crop_share(self) -> float:
        """The share of the resized short side that the crop keeps, as `for_size` takes it."""
        return min(1.0, min(self.size) / self.resize)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size (height, width) an image of `height` × `width` has after resizing, before crop or padding."""
        if self.crop_mode == "squash":
            return self.size
        if self.crop_mode == "pad":
            # In whole numbers, as inside exports: 45 × (224 / 320) is less than 31.5, and 45 × 224 / 320 is it.
            by_height = self.size[0] * width <= self.size[1] * height
            to, of = (self.size[0], height) if by_height else (self.size[1], width)
            return max(1, round(height * to / of)), max(1, round(width * to / of))
        short, long = min(height, width), max(height, width)
        exact = self.resize * long / short
        other = int(exact) if self.rounding == "floor" else round(exact)
        return (self.resize, other) if height <= width else (other, self.resize)

    def restated(
        self,
        *,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        image_size: int | tuple[int, int] | None = None,
        crop_mode: CropMode | None = None,
    ) -> "Preprocess":
        """The row with what a person states in place of what was assumed; another size keeps the crop's share.

        >>> Preprocess.for_size(224, crop_share=0.875).restated(image_size=128).resize
        146
        """
        row = replace(
            self, mean=mean or self.mean, std=std or self.std, crop_mode=crop_mode or self.crop_mode
        )  # fmt: skip
        if image_size is None:
            return row
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        side = _whole(min(size) / self.crop_share)
        return replace(row, size=size, resize=max(*size, side))

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` reads them back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """The row that `to_dict` wrote; unknown keys raise."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise InvalidArgument(
                f"preprocessing has unknown keys {sorted(unknown)}: the file was written by a newer resnetkit"
            )
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        if plain.get("crop_mode") == "center":  # as files spelt it until November 2026
            plain["crop_mode"] = "centre"
        return cls(**plain)


def _whole(side: float) -> int:
    """The pixels of a side; a share that was worked out from a side gives that side, whatever the last bit.

    >>> _whole(224 / 0.95), 20 / (20 / 29) < 29, _whole(20 / (20 / 29))
    (235, True, 29)
    """
    return floor(side + 1e-6)
