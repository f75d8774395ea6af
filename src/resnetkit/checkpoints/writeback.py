"""Writing a network in another project's names, so that its own loader reads it: there and back is the identity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resnetkit.catalog.rows import Architecture, Dense, PreActivation, Residual, Vgg
from resnetkit.checkpoints.atomic import write_atomically, write_tensors
from resnetkit.checkpoints.layouts import VGG_TIMM
from resnetkit.errors import InvalidArgument, UnknownName

_POOLED = 7  # side of the map that VGG's hidden layers read
_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Format:
    """A project that networks can be written for."""

    lacks: Callable[[Architecture], str | None]
    """what of a row the project does not know; None where it knows all of it"""
    convert: Callable[[Architecture, Mapping[str, Tensor]], dict[str, Tensor]]


def write_back(path: str | Path, state: Mapping[str, Tensor], row: Architecture, target: str) -> None:
    """Write `state` (our names) for `target`, "torchvision" or "timm"; `.safetensors`, any other ending torch.save.

    Raises `InvalidArgument` for a network that the target has no code for.
    """
    if target not in FORMATS:
        raise UnknownName("format", target, FORMATS, f"(known: {', '.join(FORMATS)})")
    if lack := FORMATS[target].lacks(row):
        raise InvalidArgument(
            f"{target} has no network with {lack}: write a model file instead, or --format {_other(target)}"
        )
    tensors = FORMATS[target].convert(row, state)
    if Path(path).suffix == ".safetensors":
        write_tensors(path, tensors)
    else:
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        write_atomically(path, lambda temporary: torch.save(plain, temporary))


def _torchvision_lacks(row: Architecture) -> str | None:
    match row:
        case Residual():
            return _first({
                "stages other than its four": len(row.depths) != 4 or row.widths != _WIDTHS,
                f"a {row.stem} stem": row.stem != "conv7" or row.stem_width != 64 or row.stem_pool != "max",
                f"{row.shortcut} shortcuts": row.shortcut != "conv",
                "stride at the first convolution": row.stride_at != "conv2",
                f"{row.attention} attention": row.attention != "none",
                "antialiasing": row.antialias != "none",
                f"{row.norm} norm": row.norm != "batch",
                "a narrower first convolution": row.first_reduction != 1,
            })  # fmt: skip
        case PreActivation():
            return "pre-activation blocks"
        case Dense():
            return _first({f"a {row.stem} stem": row.stem != "conv7", "antialiasing": row.stem_antialias != "none"})
        case Vgg():
            return _vgg_lacks(row)


def _timm_lacks(row: Architecture) -> str | None:
    match row:
        case Residual():
            return _first({
                "stages other than its four": len(row.depths) != 4 or row.widths != _WIDTHS,
                f"a {row.stem} stem": row.stem == "conv3" or row.stem_pool == "none",
                f"{row.shortcut} shortcuts": row.shortcut in ("pad", "none"),
                "stride at the first convolution": row.stride_at != "conv2",
            })  # fmt: skip
        case PreActivation():
            return _first({
                f"a {row.stem} stem": row.stem == "conv3" or row.stem_pool == "none" or not row.stem_widened,
                "stages other than its four": len(row.depths) != 4 or row.widths != _WIDTHS,
                "stride at the first convolution": row.stride_at != "conv2",
            })  # fmt: skip
        case Dense():
            return None
        case Vgg():
            return _vgg_lacks(row)


def _vgg_lacks(row: Vgg) -> str | None:
    return _first(
        {"stages other than its five": len(row.depths) != 5, "other hidden layers": row.hidden_features != 4096}
    )


def _first(lacks: Mapping[str, bool]) -> str | None:
    return next((what for what, true in lacks.items() if true), None)


def _as_they_are(row: Architecture, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(state)


def _timm(row: Architecture, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In timm VGG keeps its hidden layers as convolutions over the last feature map."""
    if not isinstance(row, Vgg):
        return dict(state)
    renamed = {VGG_TIMM.theirs(key) or key: tensor for key, tensor in state.items()}
    sides = {"pre_logits.fc1.weight": _POOLED, "pre_logits.fc2.weight": 1}
    return {
        key: tensor.reshape(tensor.shape[0], -1, sides[key], sides[key]) if key in sides else tensor
        for key, tensor in renamed.items()
    }


def _other(target: str) -> str:
    return next(name for name in FORMATS if name != target)


FORMATS: Mapping[str, Format] = {
    "torchvision": Format(_torchvision_lacks, _as_they_are),
    "timm": Format(_timm_lacks, _timm),
}
