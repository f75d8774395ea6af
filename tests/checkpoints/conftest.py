"""Damage that files suffer, for whoever reads them."""

import random
import struct
from collections.abc import Callable

import pytest


def damage(content: bytes, chance: random.Random) -> bytes:
    """A few bits, bytes, pieces or lengths of `content` changed."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place] = chance.randrange(256)
            case 2:
                del data[place : place + chance.randrange(1, 9)]
            case 3:
                data[place:place] = data[chance.randrange(len(data)) :][: chance.randrange(1, 9)]
            case 4:
                data[place : place + 8] = struct.pack("<q", chance.choice((-1, 2**31, 2**62, 0)))
        data = data or bytearray(b"\0")
    return bytes(data)


@pytest.fixture(scope="session")
def mutated() -> Callable[[bytes, random.Random], bytes]:
    return damage
