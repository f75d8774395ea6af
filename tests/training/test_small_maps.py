"""Convolutions as products: against torch's own, in double precision, over every shape that a few pixels allow."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from resnetkit.tasks import bf16
from resnetkit.training import small_maps
from resnetkit.training.small_maps import convolve, is_better_as_product

Pair = tuple[int, int]
SHAPES = [
    (size, kernel, stride, padding)
    for size, kernel, stride, padding in product(
        [(1, 1), (2, 2), (3, 3), (4, 4), (1, 3), (4, 2), (7, 5)], [(3, 3), (5, 5), (3, 1), (2, 2)],
        [(1, 1), (2, 2), (1, 2), (3, 2)], [(0, 0), (1, 1), (2, 2), (1, 0)],
    )
    if all(side + 2 * pad >= k > pad for side, pad, k in zip(size, padding, kernel, strict=True))
]  # fmt: skip


def both(conv: nn.Conv2d, x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Output, gradients of x and of the weights: as products and by torch."""
    results = []
    for compute in (lambda: convolve(conv, x), lambda: conv(x)):
        y = compute()
        g = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
        results.append((y, *torch.autograd.grad(y, (x, conv.weight), g)))
    return results[0], results[1]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), SHAPES)
def test_it_is_the_convolution_and_so_are_its_gradients(size: Pair, kernel: Pair, stride: Pair, padding: Pair):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, kernel, stride, padding, bias=False, dtype=torch.float64)
    x = torch.randn(3, 5, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    for ours, theirs in zip(*both(conv, x), strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 2), (2, 1), (4, 2), (4, 1)])
def test_in_bf16_it_is_as_near_to_the_truth_as_the_convolution(size: int, stride: int):
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 32, 3, stride, 1, bias=False).to(memory_format=torch.channels_last)
    exact = nn.Conv2d(64, 32, 3, stride, 1, bias=False, dtype=torch.float64)
    exact.load_state_dict({"weight": conv.weight.bfloat16().double()})
    x = torch.randn(8, 64, size, size).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = both(conv, x)
    whole = x.detach().double().requires_grad_()
    y = exact(whole)
    g = torch.randn(y.shape, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1)).double()
    truth = (y, *torch.autograd.grad(y, (whole, exact.weight), g))
    for our, their, true in zip(ours, theirs, truth, strict=True):
        assert our.dtype == their.dtype
        assert (our.double() - true).norm() <= 2 * (their.double() - true).norm()


def test_gradients_that_nobody_wants_are_not_computed():
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    x = torch.randn(2, 4, 2, 2)
    convolve(conv, x).sum().backward()
    conv.weight.requires_grad_(False)
    x.requires_grad_()
    convolve(conv, x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("tiles", [False, True])
def test_it_is_for_one_pixel_and_with_tiles_in_bf16_for_sixteen(tiles: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(small_maps, "has_bf16_tiles", lambda: tiles)
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)

    def better(side: int, of: nn.Conv2d = conv) -> bool:
        return is_better_as_product(of, torch.randn(2, 4, side, side))

    assert [better(side) for side in (1, 2, 4, 5)] == [True, False, False, False]
    with torch.autocast("cpu", torch.bfloat16):
        assert [better(side) for side in (1, 2, 4, 5)] == [True, tiles, tiles, False]
        assert better(8, nn.Conv2d(4, 4, 3, 2, 1, bias=False)) == tiles
    for other in (
        nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, bias=False), nn.Conv2d(4, 4, 3, padding="same", bias=False),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", bias=False),
    ):  # fmt: skip
        assert not better(1, other)


@pytest.mark.parametrize(
    ("limit", "tiles"), [("", True), ("AVX512_CORE_BF16", False), ("avx512_core_amx", True), ("DEFAULT", True)]
)
def test_a_limit_on_the_instruction_set_takes_the_tiles_away(limit: str, tiles: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert bf16.has_bf16_tiles() == tiles
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not bf16.has_bf16_tiles()
