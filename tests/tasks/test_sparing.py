"""Answers in little memory: one for each image, in order, whatever computes them and however many are under way."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from resnetkit.api.networks import create_model
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.ahead import map_ahead
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.contract import Pixels, Probabilities
from resnetkit.tasks.memory import OutOfMemory
from resnetkit.tasks.sparing import Sparing

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)


class Scarce:
    """A network with memory for `most` images at once, which has several batches under way in a stream."""

    def __init__(self, most: int) -> None:
        self._network = TorchClassifier(
            create_model("resnet20", num_classes=10), num_classes=10, class_names=None,
            preprocess=Preprocess.for_size(8),
        )  # fmt: skip
        self.class_names, self.num_classes = None, 10
        self.preprocess, self.description = self._network.preprocess, "scarce"
        self.most, self.tried = most, list[int]()

    def __call__(self, pixels: Pixels) -> Probabilities:
        self.tried.append(len(pixels))
        if len(pixels) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return self._network(pixels)

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        return map_ahead(self, batches, workers=2, ahead=2)


@pytest.mark.parametrize("sizes", [(8, 8, 30, 4), (30, 8), (20, 20, 10), (50,), (4, 4, 4, 4, 4, 30)])
def test_a_shortage_in_a_stream_loses_no_batch_of_those_under_way(sizes: tuple[int, ...]):
    batches = np.split(PIXELS, np.cumsum(sizes))[: len(sizes)]
    scarce, told = Scarce(50), list[tuple[int, int]]()
    whole = list(map(scarce, batches))
    scarce.most = 12
    sparing = Sparing(scarce, lambda tried, most: told.append((tried, most)))
    answers = list(sparing.stream(iter(batches)))
    assert [len(each) for each in answers] == list(sizes)
    for ours, theirs in zip(answers, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert told
    assert told[-1][1] <= 12
    scarce.tried.clear()
    list(sparing.stream(batches))
    assert max(scarce.tried) <= 12, "what fits is remembered"


def test_one_image_at_a_time_is_the_least_and_then_it_gives_up():
    scarce = Scarce(1)
    assert Sparing(scarce)(PIXELS[:3]).shape == (3, 10)
    scarce.most = 0
    with pytest.raises(OutOfMemory, match=r"even for one image .*smaller model"):
        Sparing(scarce)(PIXELS[:4])


def test_a_shortage_where_the_batches_come_from_is_no_shortage_of_the_network():
    def batches() -> Iterator[Pixels]:
        yield PIXELS[:4]
        raise MemoryError("no room to decode")

    with pytest.raises(MemoryError, match="no room to decode"):
        list(Sparing(Scarce(50)).stream(batches()))


# The system's own limit on a process, a little above what it has: a large batch gets no memory, and a small one does.
LITTLE = """
import resource, sys
from pathlib import Path
import numpy as np
import resnetkit as rk
from resnetkit.deployment.stated import Stated
images = np.random.default_rng(0).integers(0, 256, (120, 64, 64, 3), dtype=np.uint8)
place = Path(sys.argv[1])
np.savez(place / "data.npz", test_images=images, test_labels=np.linspace(0, 999, 120).astype(int)[:, None])
words = dict(backend="torch", device="cpu", stated=Stated(image_size=64))
scored = lambda size: rk.evaluate("resnet20", place / "data.npz", batch_size=size, workers=0, **words)
usual = scored(4)
room = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 60 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
little = scored(120)
assert little.scores.n == usual.scores.n == 120
assert little.scores.confusion == usual.scores.confusion
assert abs(little.scores.loss - usual.scores.loss) < 1e-5
print(*(note for note in little.notes if note not in usual.notes), sep="\\n")
"""


@LINUX
def test_evaluate_goes_on_under_a_real_limit_and_says_which_batch_size_spares_it(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", LITTLE, tmp_path], capture_output=True, text=True,
        env={"PATH": "", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [said] = done.stdout.splitlines()
    assert "out of memory with" in said
    assert "--batch-size" in said
