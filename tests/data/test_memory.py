import platform
import subprocess
import sys

import pytest

from resnetkit.data.memory import keep_freed_memory

CODE = """
import resource, torch
from resnetkit.data.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
for _ in range(3):
    torch.ones(40_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(40_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    return int(subprocess.run([sys.executable, "-c", CODE.format(keep=keep)], capture_output=True, check=True).stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="another allocator than the GNU C library's")
def test_freed_memory_is_used_again() -> None:
    assert faults(keep=True) < 0.6 * faults(keep=False)


def test_other_systems_are_left_alone() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
