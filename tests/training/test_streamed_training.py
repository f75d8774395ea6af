"""The loop minds not whether its images are indexed or streamed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import resnetkit as rk
from resnetkit.api.preparing import loaders, new_network
from resnetkit.api.training import train
from resnetkit.data.augmentation import PadAndCrop, train_transform
from resnetkit.data.opening import open_data, with_validation
from resnetkit.data.randomness import permutation
from resnetkit.data.streams import Example, IterableStream, StreamLoader
from resnetkit.errors import InvalidArgument
from resnetkit.training.loop import fit
from resnetkit.training.plan import Plan
from resnetkit.training.processes import ALONE
from resnetkit.training.progress import EpochEnded, Event, nobody
from resnetkit.training.run import Run


def test_digits_as_a_python_iterable_train_to_the_same_weights(tmp_path: Path) -> None:
    settings = {"epochs": 2, "batch_size": 128, "deterministic": True, "kernels": "torch"}
    indexed = train("digits", output=tmp_path / "indexed", **settings)
    plan = Plan.read(indexed.run / "recipe.yaml")
    dataset = with_validation(open_data("digits", val_share=0), plan.data.split_seed, 0.1, plan.data.together)
    source = dataset.split("train")

    def examples_of(epoch: int) -> Iterator[Example]:
        for index in permutation("order", plan.seed, epoch, len(source)):
            yield source.image(int(index)), int(source.labels[index])

    stream = IterableStream(examples_of, len(source), 10, dataset.class_names, channels=1)
    transform = train_transform(PadAndCrop(flip=False), plan.preprocess)
    images = StreamLoader(stream, transform, 128, seed=plan.seed, workers=1)
    _, val = loaders(plan, dataset, 0, ALONE)

    def stop(event: Event) -> None:
        if isinstance(event, EpochEnded):
            raise KeyboardInterrupt

    run = Run.create(tmp_path / "streamed", "train")
    with pytest.raises(KeyboardInterrupt):
        fit(new_network(plan), plan, run, images, val, listener=stop)
    outcome = fit(new_network(plan), plan, run, images, val, listener=nobody)
    assert (outcome.best_epoch, outcome.best_score) == (indexed.best_epoch, indexed.best_score)
    wanted, got = rk.load(indexed.run).state_dict(), rk.load(run.path).state_dict()
    assert all(torch.equal(got[key], tensor) for key, tensor in wanted.items())
    weighed = replace(plan, recipe=replace(plan.recipe, balance="loss"))
    with pytest.raises(InvalidArgument, match="a stream's"):
        fit(new_network(plan), weighed, Run.create(tmp_path / "weighed", "train"), images, val, listener=nobody)
