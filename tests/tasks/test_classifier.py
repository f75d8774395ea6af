"""In what a network answers."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.tasks import classifier
from resnetkit.tasks.classifier import TorchClassifier, whole_float32


def test_an_answer_in_float32_is_not_in_tf32_on_a_gpu() -> None:
    """The switch is the whole process's: it must stand as it was afterwards."""
    assert torch.backends.cudnn.allow_tf32
    with whole_float32(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_a_failure_leaves_no_switch_turned() -> None:
    def fails() -> None:
        with whole_float32(torch.device("cuda")):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fails()
    assert torch.backends.cudnn.allow_tf32


def test_on_other_devices_the_switch_is_left_alone() -> None:
    with whole_float32(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32


def test_the_network_answers_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU here: the switch is watched as if the network's device were one."""

    @contextmanager
    def as_on_a_gpu(_: torch.device) -> Iterator[None]:
        with whole_float32(torch.device("cuda")):
            yield

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.seen: list[bool] = []

        def forward(self, images: Tensor) -> Tensor:
            self.seen.append(torch.backends.cudnn.allow_tf32)
            return self.weight.expand(len(images), 2)

    monkeypatch.setattr(classifier, "whole_float32", as_on_a_gpu)
    network = Watching()
    ask = TorchClassifier(network, num_classes=2, class_names=None, preprocess=Preprocess.for_size(8))
    ask(np.zeros((1, 8, 8, 3), np.uint8))
    assert network.seen == [False]


def test_the_switch_is_turned_back_by_the_last_of_several_threads() -> None:
    one, other = whole_float32(torch.device("cuda")), whole_float32(torch.device("cuda"))
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32, "the other is still asking"
    other.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32
