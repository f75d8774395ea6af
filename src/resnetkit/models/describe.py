"""Understanding a network without running it: it is built and traced on torch's meta device, which holds no numbers."""

# Dispatch modes and storages carry no types in torch.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from resnetkit.catalog.architectures import architecture, name_of
from resnetkit.catalog.rows import Architecture
from resnetkit.description import Description, Layer, Skip, Stage
from resnetkit.errors import InvalidInputSize
from resnetkit.models.hollow import build_hollow
from resnetkit.models.network import Network

BATCH = 9973
"""A prime that no weight's shape holds, to tell what grows with the batch from what does not; here it costs nothing."""


def describe(
    model: str | Architecture, input_size: tuple[int, int, int] = (3, 224, 224), *,
    num_classes: int = 1000, output_stride: int = 32,
) -> Description:  # fmt: skip
    """Shapes, receptive fields, parameters, multiply-adds and memory of the network for images of `input_size` C,H,W.

    Multiply-adds are those of convolutions and linear layers. Raises InvalidInputSize where an image is too small.

    >>> resnet = describe("resnet34", (3, 224, 224))
    >>> resnet.params, round(resnet.macs / 1e9, 3)
    (21797672, 3.664)
    >>> [(stage.name, stage.shape, stage.receptive_field) for stage in resnet.stages[:3]]
    [('stem', (64, 112, 112), 7), ('layer1', (64, 56, 56), 59), ('layer2', (128, 28, 28), 179)]
    """
    row = architecture(model) if isinstance(model, str) else model
    network = build_hollow(row, num_classes=num_classes, in_chans=input_size[0], output_stride=output_stride)
    images = torch.empty(BATCH, *input_size, device="meta")
    try:
        ran, peak_bytes = _trace_inference(network.eval(), images)
        maps, saved = _trace_training(network.train(), images)
    except (RuntimeError, ValueError) as error:
        least = network.feature_info.reduction()[-1]
        raise InvalidInputSize(
            f"an image of {input_size[1]} × {input_size[2]} pixels vanishes on its way through this network: "
            f"use at least {least} × {least}, better {2 * least} × {2 * least}"
        ) from error
    parts = [*network.steps(), _head(network)]
    members = [_modules(part) for part in parts]
    names = ["stem", *network.feature_info.module_name()[1:], "head"]
    fields = _receptive_fields(network)
    stages = tuple(
        Stage(
            name=names[index],
            shape=tuple(maps[index].shape[1:]),
            stride=stride,
            receptive_field=fields[index] if stride else None,
            params=_params(parts[index]),
            macs=sum(layer.macs for module, layer in ran if module in members[index]),
            saved_bytes=saved[index],
        )
        for index, stride in enumerate([*network.feature_info.reduction(), None])
    )
    coarsest = network.feature_info.reduction()[-1]
    return Description(
        name=model if isinstance(model, str) else name_of(row),
        input_size=input_size,
        num_classes=num_classes,
        params=_params((network,)),
        macs=sum(layer.macs for _, layer in ran),
        saved_bytes=sum(saved),
        peak_bytes=peak_bytes,
        stages=stages,
        layers=tuple(layer for _, layer in ran),
        skips=_skips(input_size, stages[:-1]),
        padding=(-input_size[1] % coarsest, -input_size[2] % coarsest),
    )


def _head(network: Network) -> tuple[nn.Module, ...]:
    """Everything that belongs to no step."""
    stepped = _modules(part for step in network.steps() for part in step)
    return tuple(module for module in network.modules() if module not in stepped and not list(module.children()))


def _modules(parts: Iterable[nn.Module]) -> set[nn.Module]:
    return {module for part in parts for module in part.modules()}


def _params(modules: tuple[nn.Module, ...]) -> int:
    return sum(weights.numel() for module in modules for weights in module.parameters())


def _trace_inference(network: Network, images: Tensor) -> tuple[list[tuple[nn.Module, Layer]], int]:
    """Each layer as it ran, and the most bytes of activations alive at once, of one image."""
    ran: list[tuple[nn.Module, Layer]] = []

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        weights = module.weight if isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear) else None
        layer = Layer(
            name=names[module],
            kind=type(module).__name__,
            shape=tuple(output.shape[1:]),
            params=_params((module,)),
            macs=output[0].numel() * weights[0].numel() if weights is not None else 0,
        )
        ran.append((module, layer))

    names = {module: name for name, module in network.named_modules()}
    leaves = [m for m in names if not list(m.children()) and not isinstance(m, nn.Identity)]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    with torch.no_grad(), _LiveMemory(network, images) as memory:
        network(images)
    for hook in hooks:
        hook.remove()
    return ran, memory.peak


class _LiveMemory(TorchDispatchMode):
    """Counts the bytes of all tensors alive, weights apart, after each operation; `peak` is the most there were."""

    def __init__(self, network: Network, images: Tensor) -> None:
        super().__init__()
        self.weights = {_storage(tensor) for tensor in network.state_dict().values()}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        self._add(images)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs `func` and looks at what lives."""
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return output

    def _add(self, tensor: Tensor) -> None:
        if _storage(tensor) not in self.weights:
            storage = tensor.untyped_storage()
            self.alive[_storage(tensor)] = (StorageWeakRef(storage), _bytes_for_one(tensor))


def _trace_training(network: Network, images: Tensor) -> tuple[list[Tensor], list[int]]:
    """The output of each stage, and the bytes that autograd saves in each, of one image."""
    known = {_storage(tensor) for tensor in network.state_dict().values()}
    maps, saved, x = [], [], images
    for step in network.steps():
        with _saving(known) as kept:
            for module in step:
                x = module(x)
        maps.append(x)
        saved.append(sum(kept))
    with _saving(known) as kept:
        maps.append(network.forward_head(network.finish(x)))
    return maps, [*saved, sum(kept)]


@contextmanager
def _saving(known: set[int]) -> Iterator[list[int]]:
    """The bytes of each tensor that autograd saves inside the context and that is not `known` yet."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in known:
            known.add(_storage(tensor))
            sizes.append(_bytes_for_one(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def _bytes_for_one(tensor: Tensor) -> int:
    """What the tensor's storage would hold for a batch of one image."""
    size = tensor.untyped_storage().nbytes()
    return size // BATCH if size % BATCH == 0 else size


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _receptive_fields(network: Network) -> list[int]:
    """After each step, along the longest path: through the residuals, past the shortcuts."""
    shortcuts = (getattr(block, "downsample", None) for block in network.modules())
    beside = _modules(part for part in shortcuts if isinstance(part, nn.Module))
    fields, field, jump = [], 1, 1
    for step in network.steps():
        for module in (module for part in step for module in part.modules() if module not in beside):
            kernel = _along_one_side(module, "kernel_size")
            if kernel is None or isinstance(module, nn.Conv1d):
                continue
            field += (kernel - 1) * (_along_one_side(module, "dilation") or 1) * jump
            jump *= _along_one_side(module, "stride") or 1
        fields.append(field)
    return fields


def _along_one_side(module: nn.Module, name: str) -> int | None:
    value = getattr(module, name, None)
    return value[0] if isinstance(value, tuple) else value


def _skips(input_size: tuple[int, int, int], stages: tuple[Stage, ...]) -> tuple[Skip, ...]:
    """Each coarser map, scaled up by what the strides differ, against the finer one; first against the image."""
    finer = [("image", input_size[1:], 1)]
    finer += [(stage.name, (stage.shape[1], stage.shape[2]), stage.stride or 1) for stage in stages]
    skips = []
    for (name, size, stride), (_, coarse, coarse_stride) in pairwise(finer):
        if coarse_stride > stride:
            scale = coarse_stride // stride
            skips.append(Skip(stage=name, size=size, upsampled=(coarse[0] * scale, coarse[1] * scale)))
    return tuple(skips)
