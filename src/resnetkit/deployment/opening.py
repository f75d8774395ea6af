"""`open_model`: the one place that tells what a MODEL is — a run folder, a model file, a stranger's file, or a name."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from resnetkit.catalog import imagenet
from resnetkit.catalog.architectures import ARCHITECTURES, Architecture, PreActivation, Residual, architecture
from resnetkit.catalog.preprocessing import Preprocess, usual_normalisation
from resnetkit.catalog.pretrained import Pretrained, pretrained
from resnetkit.checkpoints.modelfile import ModelCard, is_model_file, read
from resnetkit.deployment.stated import Stated
from resnetkit.errors import CheckpointError, UnknownName
from resnetkit.models import build, build_hollow
from resnetkit.tasks.classifier import TorchClassifier


@dataclass(frozen=True)
class OpenedModel:
    """A network with its card; `source` is the file it came from, `notes` what the person should know about it."""

    network: nn.Module
    card: ModelCard
    source: Path | None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The architecture's name, or its kind where it has none."""
        return self.card.architecture or f"{type(self.card.row).__name__} network"

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes its input."""
        return self.card.preprocess

    def classifier(self, *, device: str = "cpu", precision: str = "float32") -> TorchClassifier:
        """The network itself, moved to `device` in channels-last, as a Classifier; bf16 casts weights at each call."""
        self.network.to(device=device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return TorchClassifier(
            self.network.eval(),
            num_classes=self.card.num_classes,
            class_names=self.card.class_names,
            preprocess=self.card.preprocess,
            name=self.name,
            precision=precision,
            temperature=self.card.temperature or 1.0,
            task=self.card.task,
        )


def open_model(spec: str | Path, stated: Stated | None = None) -> OpenedModel:
    """The model that `spec` names: a path, an architecture, or published weights as `architecture.tag`.

    A name that is both a path and an architecture is the path.

    Raises UnknownName, CheckpointError (with all that does not fit) or UnsafeFile (a pickle that would run code).
    """
    stated = stated or Stated()
    path = Path(spec)
    if path.is_dir():
        return _from_file(_model_of_run(path), stated)
    if path.exists():
        return _from_file(path, stated)
    if str(spec) in ARCHITECTURES:
        return _from_name(str(spec), stated)
    if str(spec).partition(".")[0] in ARCHITECTURES:
        return _published(pretrained(str(spec)), stated)
    if path.suffix or len(path.parts) > 1:
        raise CheckpointError(f"there is no file {path}: give a run folder, a model file or an architecture's name")
    raise UnknownName("model file or architecture", str(spec), ARCHITECTURES, "(`resnetkit list` shows all)")


def _model_of_run(folder: Path) -> Path:
    model = folder / "model.safetensors"
    if model.exists():
        return model
    if (folder / "recipe.yaml").exists():
        raise CheckpointError(
            f"the run {folder} has no model yet, it was stopped in its first epoch: resnetkit train --resume {folder}"
        )
    raise CheckpointError(f"the folder {folder} is no run (it holds no model.safetensors): give one that train named")


def _from_file(path: Path, stated: Stated) -> OpenedModel:
    if is_model_file(path):
        state, card = read(path)
        return _loaded(state, stated.apply(card), path, ())
    from resnetkit.checkpoints.adopt import adopt  # for strangers' files alone

    adopted = adopt(path, stride_at=stated.stride_at, row=stated.architecture)
    return _loaded(adopted.state, stated.apply(adopted.card), path, adopted.report.notes)


def _loaded(state: dict[str, Tensor], card: ModelCard, path: Path, notes: tuple[str, ...]) -> OpenedModel:
    # No time is spent on random weights that the file's replace at once.
    network = build_hollow(card.row, num_classes=card.num_classes, in_chans=card.in_chans)
    network.load_state_dict(state, assign=True)
    return OpenedModel(network.eval(), card, path, notes)


def _published(weights: Pretrained, stated: Stated) -> OpenedModel:
    from resnetkit.checkpoints.fetch import fetch
    from resnetkit.checkpoints.transfer import load_published

    row = architecture(weights.architecture)
    card = ModelCard(
        architecture=weights.architecture,
        row=row,
        num_classes=weights.num_classes,
        class_names=imagenet.class_names() if weights.num_classes == 1000 else None,
        preprocess=weights.preprocess,
        training={"published": weights.name},
        licence=weights.licence,
    )
    notes = (f"{weights.name} may not be used commercially ({weights.licence})",) if weights.non_commercial else ()
    return _loaded(load_published(weights, row), stated.apply(card), fetch(weights), notes)


def _from_name(name: str, stated: Stated) -> OpenedModel:
    row = architecture(name)
    with torch.random.fork_rng(devices=[]):  # the caller's own numbers by chance stay what they were
        torch.default_generator.manual_seed(0)
        network = build(row)
    card = ModelCard(
        architecture=name, row=row, num_classes=network.num_classes, in_chans=network.in_chans,
        class_names=None, preprocess=_usual_preprocess(row, network.in_chans),
    )  # fmt: skip
    note = f"{name} is a bare architecture: its weights are random, so its answers mean nothing until it is trained"
    return OpenedModel(network.eval(), stated.apply(card), None, (note,))


def _usual_preprocess(row: Architecture, channels: int) -> Preprocess:
    """32 pixels for a stem made for small images, else the middle 224 of 256."""
    mean, std = usual_normalisation(channels)
    small = row.stem == "conv3" if isinstance(row, Residual | PreActivation) else False
    return Preprocess.for_size(32 if small else 224, crop_share=1.0 if small else 0.875, mean=mean, std=std)
