import platform

from resnetkit.data.memory import keep_freed_memory


def test_only_glibc_is_told() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
