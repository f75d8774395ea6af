"""A network's tensors beside those of a file: what fits, what is missing, what differs."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from resnetkit.catalog.rows import Architecture
from resnetkit.errors import CheckpointError
from resnetkit.models import build_hollow

Shape = tuple[int, ...]


_HEADS = {"fc", "head", "classifier"}


@dataclass(frozen=True)
class Comparison:
    """Tensor by tensor, by our names."""

    matched: tuple[str, ...]
    missing: Mapping[str, Shape]
    """the network has them, the file does not"""
    surplus: Mapping[str, Shape]
    """the file has them, the network does not"""
    different: Mapping[str, tuple[Shape, Shape]]
    """shape in the file, shape in the network"""

    @property
    def misfit(self) -> "Comparison":
        """What makes it another network. Old files lack counters, and heads of others may be larger.

        Surplus in the body counts: what computes more than the network does is another network.
        """
        body = {key.split(".")[0] for key in (*self.matched, *self.missing, *self.different)} - _HEADS
        return Comparison(
            matched=self.matched,
            missing={key: shape for key, shape in self.missing.items() if not key.endswith("num_batches_tracked")},
            surplus={key: shape for key, shape in self.surplus.items() if key.split(".")[0] in body},
            different=self.different,
        )

    @property
    def fits(self) -> bool:
        """Whether every tensor of the network is there in its shape, and no other."""
        return not (self.missing or self.different or self.surplus)

    def differences(self) -> str:
        """All that keeps the file from fitting, in one line, both shapes each."""
        lines = [f"{key} is {_text(theirs)} in the file and {_text(ours)} in the network"
                 for key, (theirs, ours) in self.different.items()]  # fmt: skip
        lines += [f"{key} {_text(shape)} is missing" for key, shape in self.missing.items()]
        lines += [f"{key} {_text(shape)} has no place" for key, shape in self.surplus.items()]
        return "; ".join(lines)


def compare(shapes: Mapping[str, Shape], expected: Mapping[str, Shape]) -> Comparison:
    """Shapes of a file beside the shapes of a network."""
    return Comparison(
        matched=tuple(key for key, shape in expected.items() if shapes.get(key) == shape),
        missing={key: shape for key, shape in expected.items() if key not in shapes},
        surplus={key: shape for key, shape in shapes.items() if key not in expected},
        different={
            key: (shapes[key], shape) for key, shape in expected.items() if key in shapes and shapes[key] != shape
        },
    )


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Name → shape."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def network_shapes(row: Architecture, *, num_classes: int, in_chans: int) -> dict[str, Shape]:
    """Name → shape of the network that `row` builds, in order, without allocating it.

    >>> from resnetkit.catalog.architectures import architecture
    >>> network_shapes(architecture("resnet50"), num_classes=10, in_chans=3)["fc.weight"]
    (10, 2048)
    """
    return shapes_of(build_hollow(row, num_classes=num_classes, in_chans=in_chans).state_dict())


def check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Raises `CheckpointError` that lists every missing, surplus and different tensor with its shapes."""
    found = compare(shapes_of(state), shapes_of(expected))
    if not found.fits:
        raise CheckpointError(
            f"{what} does not fit this network: {found.differences()}. "
            "Build the architecture, num_classes and in_chans that the file has; `resnetkit adopt` finds them"
        )


def _text(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "a number"
