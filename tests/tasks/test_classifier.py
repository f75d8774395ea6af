"""In what a network answers."""

import pytest
import torch

from resnetkit.tasks.classifier import whole_float32


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
