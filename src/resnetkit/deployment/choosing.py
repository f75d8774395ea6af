"""From what the person named to a `Classifier` that is ready to answer. torch is imported only where it is needed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.preparing import Resize, resize_with_pillow
from resnetkit.deployment.backends.lanes import Lanes, Mode
from resnetkit.deployment.stated import Stated
from resnetkit.tasks.contract import Classifier, Pixels
from resnetkit.tasks.sparing import Shortage, Sparing

if TYPE_CHECKING:
    from resnetkit.deployment.exports.opened import ExportedModel
    from resnetkit.deployment.opening import OpenedModel


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
    """What is to be computed: at least so many images, and a batch of them to try runtimes on."""

    images: int
    sample: Callable[[Preprocess], Pixels]


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
    made only for `work` that would take torch half a minute or more. Without one it is torch in float32. An exported
    file has its runtime and precision already. Where memory is too little for a batch it is computed in pieces, and
    `say` gets a line of it.
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
        classifier = classifier_of(found, Lanes.of(mode))
        return Ready(Sparing(classifier, tell), resize_with_pillow, found.notes, found.card.threshold)
    return _network(found, device, backend, precision, mode, batch_size, work, tell)


def _network(
    opened: "OpenedModel",
    device: str | None,
    backend: str,
    precision: str,
    mode: Mode,
    batch_size: int,
    work: Work | None,
    tell: Shortage,
) -> Ready:
    import torch

    from resnetkit.data.transforms import resize_pixels
    from resnetkit.deployment.devices import best_device
    from resnetkit.tasks.bf16 import SLOW, has_native_bf16

    device = best_device(device)
    if device != "cpu":
        plain = "float32" if precision == "auto" else precision
        on_device = Sparing(opened.classifier(device=device, precision=plain), tell)
        return Ready(on_device, resize_pixels, opened.notes, opened.card.threshold)
    classifier = _on_cpu(opened, backend, precision, mode, batch_size, work)
    sparing = Sparing(classifier, tell)
    notes = opened.notes
    if precision == "bf16" and not has_native_bf16(torch.device("cpu")):
        notes += (SLOW,)
    if backend == "compile":  # the first batch shows whether this machine can
        sparing(np.zeros((batch_size, *opened.preprocess.size, opened.card.in_chans), np.uint8))
        notes += tuple(note for note in (getattr(classifier, "note", None),) if note)
    return Ready(sparing, resize_pixels, notes, opened.card.threshold)


def _on_cpu(
    opened: "OpenedModel", backend: str, precision: str, mode: Mode, batch_size: int, work: Work | None
) -> Classifier:
    from resnetkit.deployment.building import build
    from resnetkit.deployment.probing import Bound, candidates, ever_chosen, probe, remember, remembered

    choices = candidates(backend, precision)
    if len(choices) > 1 and (work is not None or ever_chosen(mode, batch_size)):
        name, known = remembered(opened, choices, mode=mode, batch_size=batch_size)
        if known is None and work is not None:
            found = probe(opened, choices, work.sample(opened.preprocess), mode=mode, images=work.images, bound=Bound())
            if found is not None:
                remember(name, found[0])
                return found[1]
        choices = (known or choices[0],)
    return build(opened, choices[0].backend, choices[0].precision, Lanes.of(mode))
