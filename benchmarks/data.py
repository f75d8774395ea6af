"""Images/s of the input path beside the usual pipeline, alternating, as a median ratio of pairs.

    python benchmarks/data.py --yardstick PATH/data_speed.py --photos FOLDER --cifar FILE.npz    # all cases, five pairs
    python benchmarks/data.py --yardstick … --photos FOLDER --case cache

The yardstick is a script that takes FOLDER WORKERS, rewrites the first 200 JPEGs below FOLDER to 500×375 at quality 90,
cuts, resizes to 224 and mirrors them at random with Pillow under a DataLoader, normalises, and prints images/s. Ours
does the same to the same photos and normalises each batch, as the training step would. Beside CIFAR's per-image
pipeline (Pillow, the DataLoader's default settings) stands the array in memory, augmented as whole batches.

`threads` is no comparison with a yardstick: our own decoding and cropping on the loader's threads ("ours") and in
a DataLoader's processes ("yardstick"), two of each. Each measurement is a process of its own. Use a quiet machine.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pairs import compare, conditions
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.augmentation import PadAndCrop, RandomResizedCrop, train_transform
from resnetkit.data.cache import cached
from resnetkit.data.loader import Loader
from resnetkit.data.memory import keep_freed_memory
from resnetkit.data.opening import open_data
from resnetkit.data.randomness import uniform
from resnetkit.data.sources import FileSource, Source
from resnetkit.data.transforms import normalise

CASES = ("jpeg", "jpeg-two", "cache", "cifar", "threads")
_PHOTOS, _AN_EPOCH, _BATCH, _CIFAR_BATCH = 200, 1200, 64, 128
_PHOTO = Preprocess.for_size(224, crop_share=0.875)
_SMALL = Preprocess.for_size(32)


def photo_source(folder: Path, into: Path) -> FileSource:
    """The yardstick's photos, rewritten as it does: 200 files, six times in an epoch."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:_PHOTOS]
    for index, path in enumerate(files):
        with Image.open(path) as image:
            image.convert("RGB").resize((500, 375)).save(into / f"{index}.jpg", quality=90)
    names = [f"{index}.jpg" for index in range(len(files))] * max(1, _AN_EPOCH // len(files))
    return FileSource(into, names, np.arange(len(names)) % 10, None, 10)


def speed(epoch: Callable[[int], Iterable[int]]) -> float:
    """Images/s: the median of three epochs; `epoch` yields the size of each batch as it is ready."""
    rates = []
    for number in range(3):
        began = time.perf_counter()
        images = sum(epoch(number))
        rates.append(images / (time.perf_counter() - began))
    return statistics.median(rates)


def loader_speed(source: Source, policy: PadAndCrop | RandomResizedCrop, preprocess: Preprocess, batch: int) -> float:
    """Of our loader with its defaults, each batch normalised."""
    keep_freed_memory()  # as the command does
    loader = Loader(source, train_transform(policy, preprocess), batch, shuffle_seed=0)

    def epoch(number: int) -> Iterable[int]:
        for ready in loader.batches(number):
            normalise(ready.images, preprocess)
            yield len(ready.labels)

    return speed(epoch)


class _PerImage(Dataset):
    """CIFAR as tutorials have it: an image at a time, through Pillow, to a normalised tensor."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (_SMALL.mean, _SMALL.std))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = ImageOps.expand(Image.fromarray(self.pixels[index]), 4)
        left, top = (int(value) for value in torch.randint(0, 9, (2,)))
        image = image.crop((left, top, left + 32, top + 32))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
        return (tensor - self.mean) / self.std, 0


class _InProcesses(Dataset):
    """Our decoding and cropping, to be run by a DataLoader's processes."""

    def __init__(self, source: Source) -> None:
        self.source, self.transform = source, train_transform(RandomResizedCrop(), _PHOTO)
        self.numbers = uniform("augment", 0, 0, count=len(source), columns=self.transform.columns)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.source.image(index), self.numbers[index]), 0


def dataloader_speed(dataset: Dataset, batch: int, workers: int, preprocess: Preprocess | None = None) -> float:
    """Of torch's DataLoader; with a `preprocess` its uint8 batches are normalised."""

    def epoch(_: int) -> Iterable[int]:
        for images, _labels in DataLoader(dataset, batch, shuffle=True, num_workers=workers):
            if preprocess:
                normalise(images, preprocess)
            yield len(images)

    return speed(epoch)


def one_side(side: str, photos: Path | None, cifar: Path | None) -> float:
    """Images/s of one side, in this process, on the cores it may use."""
    if side == "arrays":
        return loader_speed(open_data(cifar, val_share=0).split("train"), PadAndCrop(), _SMALL, _CIFAR_BATCH)
    if side == "per-image":
        return dataloader_speed(_PerImage(open_data(cifar, val_share=0).split("train").pixels), _CIFAR_BATCH, 0)
    with tempfile.TemporaryDirectory() as folder:
        source = photo_source(photos, Path(folder))
        if side == "processes":
            keep_freed_memory()
            return dataloader_speed(_InProcesses(source), _BATCH, 2, _PHOTO)
        if side == "cached":
            return loader_speed(
                cached(source, Path(folder) / "cache", short_side=_PHOTO.resize), RandomResizedCrop(), _PHOTO, _BATCH
            )
        return loader_speed(source, RandomResizedCrop(), _PHOTO, _BATCH)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--yardstick", type=Path, help="the usual pipeline: a script taking FOLDER WORKERS")
    reader.add_argument("--photos", type=Path, help="a folder with JPEGs anywhere below it")
    reader.add_argument("--cifar", type=Path, help="CIFAR-10 as .npz in MedMNIST's layout")
    reader.add_argument("--case", choices=CASES, action="append", help="only these (default: all)")
    reader.add_argument("--pairs", type=int, default=5)
    reader.add_argument("--side", choices=("files", "cached", "arrays", "per-image", "processes"), help="only it, once")
    reader.add_argument("--output", type=Path, help="write the results as JSON")
    words = reader.parse_args()
    torch.set_num_threads(1)
    if words.side:
        print(f"{words.side}: {one_side(words.side, words.photos, words.cifar):.0f} img/s")
        return

    def own(side: str) -> list[str]:
        given = [*(["--photos", str(words.photos)] if words.photos else []),
                 *(["--cifar", str(words.cifar)] if words.cifar else [])]  # fmt: skip
        return [sys.executable, __file__, "--side", side, *given]

    usual = [sys.executable, str(words.yardstick), str(words.photos)]
    sides = {
        "jpeg": (own("files"), [*usual, "0"], 1),
        "jpeg-two": (own("files"), [*usual, "2"], 2),
        "cache": (own("cached"), [*usual, "0"], 1),
        "cifar": (own("arrays"), own("per-image"), 1),
        "threads": (own("files"), own("processes"), 2),
    }
    results = {**conditions(), "results": {}}
    for case in words.case or CASES:
        print(case, flush=True)
        ours, theirs, cores = sides[case]
        results["results"][case] = compare(ours, theirs, words.pairs, cores=cores)
    print(json.dumps(results, indent=2))
    if words.output:
        words.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
