"""From what the person named to a `Classifier` that is ready to answer. torch is imported only where it is needed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.preparing import Resize, resize_with_pillow
from resnetkit.deployment.backends.lanes import Lanes, Mode
from resnetkit.deployment.stated import Stated
from resnetkit.errors import InvalidArgument
from resnetkit.tasks.contract import Classifier, Pixels
from resnetkit.tasks.sparing import Sparing

if TYPE_CHECKING:
    from resnetkit.deployment.exports.opened import ExportedModel
    from resnetkit.deployment.opening import OpenedModel
    from resnetkit.deployment.probing import Choice


@dataclass(frozen=True)
class Ready:
    """A classifier, how pictures are resized for it, and what the person should know about it."""

    classifier: Classifier
    resize: Resize
    notes: tuple[str, ...] = ()
    threshold: float | None = None
    """of a model for several labels: the probability from which on a class is said to be there"""


@dataclass(frozen=True)
class Work:
    """What is to be computed: at least so many images, and a batch of them to try runtimes on, if one can be had."""

    images: int
    sample: Callable[[Preprocess], Pixels | None]


def opened(spec: str | Path, stated: Stated | None = None) -> "OpenedModel | ExportedModel":
    """Whatever a MODEL may be: an exported file, which needs no torch, or else a network."""
    from resnetkit.deployment.exports.opened import exported_file, open_exported

    if path := exported_file(spec):
        from resnetkit.deployment.exports.classifier import restated

        return restated(open_exported(path), stated)
    from resnetkit.deployment.opening import open_model

    return open_model(spec, stated)


def choose(
    model: "str | Path | OpenedModel | ExportedModel | Classifier",
    *,
    stated: Stated | None = None,
    device: str | None = None,
    backend: str = "auto",
    precision: str = "float32",
    mode: Mode = "latency",
    batch_size: int = 16,
    work: Work | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Ready:
    """The classifier of a MODEL.

    With backend or precision "auto" it is the one that a probe found quickest here, which is remembered; a probe is
    made only for `work` that would take torch half a minute or more. Without one it is torch in float32. Runtimes other
    than torch compute on the CPU, GPU or not. An exported file has its runtime and precision already.

    `say` gets what shows only at work: that memory is too little for a batch, which is then computed in pieces, or that
    torch cannot compile here.
    """
    if callable(model):
        return Ready(model, resize_with_pillow)
    from resnetkit.deployment.exports.opened import ExportedModel

    def tell(tried: int, most: int) -> None:
        say(
            f"out of memory with {tried} images at once: from here on they are computed {most} at a time, which "
            f"changes no answer (--batch-size {most} spares the time of finding out)"
        )

    found = opened(model, stated) if isinstance(model, str | Path) else model
    if isinstance(found, ExportedModel):
        from resnetkit.deployment.exports.classifier import check_asked, classifier_of

        check_asked(found, device=device, backend=backend, precision=precision)
        ready = Ready(classifier_of(found, Lanes.of(mode)), resize_with_pillow, found.notes, found.card.threshold)
    else:
        ready = _network(found, device, backend, precision, mode, batch_size, work, say)
    return replace(ready, classifier=Sparing(ready.classifier, tell))


def _network(
    opened: "OpenedModel",
    device: str | None,
    backend: str,
    precision: str,
    mode: Mode,
    batch_size: int,
    work: Work | None,
    say: Callable[[str], None],
) -> Ready:
    import torch

    from resnetkit.data.transforms import resize_pixels
    from resnetkit.deployment.building import check_computes
    from resnetkit.deployment.devices import best_device
    from resnetkit.deployment.probing import candidates
    from resnetkit.tasks.bf16 import SLOW, has_native_bf16

    choices = candidates(backend, precision)
    by_torch = backend in ("auto", "torch")
    device = best_device("cpu" if device is None and not by_torch else device)
    notes = opened.notes
    if torch.device(device).type == "cpu":
        classifier = _on_cpu(opened, choices, mode, batch_size, work, say)
        if precision == "bf16" and not has_native_bf16(torch.device("cpu")):
            notes += (SLOW,)
    elif by_torch:
        plain = "float32" if precision == "auto" else precision
        check_computes("torch", plain)
        classifier = opened.classifier(device=device, precision=plain)
    else:
        raise InvalidArgument(f"{backend} computes on the CPU: leave out --device {device}, or --backend {backend}")
    return Ready(classifier, resize_pixels, notes, opened.card.threshold)


def _on_cpu(
    opened: "OpenedModel", choices: "tuple[Choice, ...]", mode: Mode, batch_size: int, work: Work | None,
    say: Callable[[str], None],
) -> Classifier:  # fmt: skip
    """The choice, if there is only one; else the one remembered, the first for little work, or the quickest."""
    from resnetkit.deployment.probing import EXACT, Bound, builder, probe, remember, remembered, worth_a_probe

    built = builder(opened, Lanes.of(mode), say)
    known = remembered(opened, choices, mode=mode, batch_size=batch_size) if len(choices) > 1 else choices[0]
    classifier = built(known or choices[0])
    if known or work is None or not worth_a_probe(built(EXACT), work.images, batch_size):
        return classifier
    pixels = work.sample(opened.preprocess)
    if pixels is None:
        return classifier
    chosen = probe(built, choices, pixels, mode=mode, bound=Bound())
    remember(opened, choices, chosen, mode=mode, batch_size=batch_size)
    return built(chosen)
