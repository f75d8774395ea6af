import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from resnetkit.catalog.architectures import ARCHITECTURES
from resnetkit.errors import InvalidArgument, WriteFailed
from resnetkit.models import Network, build
from resnetkit.training import fusion, kernels
from resnetkit.training.freezing import freeze_norms
from resnetkit.training.fusion import fused_forward
from resnetkit.training.running import choose_kernels, forward_of

pytestmark = pytest.mark.skipif(kernels.unavailable() is not None, reason=f"no kernels: {kernels.unavailable()}")

KINDS = (
    "resnet18", "resnet50", "resnet50d", "resnet50_v1", "seresnet50", "ecaresnet50t", "resnetaa50", "resnetblur50",
    "resnet20", "resnet20_b", "plain20", "resnet50_gn", "resnetv2_50", "densenet121", "resnext50_32x4d",
)  # fmt: skip


def a_network(name: str, **options: float) -> Network:
    torch.manual_seed(0)
    network = build(ARCHITECTURES[name], num_classes=5, **options)
    for module in network.modules():  # zero gammas would hide what the last norm of a block does
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network.train().to(memory_format=torch.channels_last)


def images(n: int = 4, size: int = 40) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(n, 3, size, size + 8).contiguous(memory_format=torch.channels_last)


def everything(network: Network, forward, x: Tensor) -> dict[str, Tensor]:
    """Logits, the gradient of every parameter and of the images, and the statistics after a step."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    torch.manual_seed(2)
    logits = forward(x)
    torch.manual_seed(3)
    (logits.double() * torch.randn(logits.shape, dtype=torch.double)).sum().backward()
    found = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    buffers = {name: buffer for name, buffer in network.named_buffers() if buffer.is_floating_point()}
    assert all(int(count) == 1 for name, count in network.named_buffers() if name not in buffers)
    return {"logits": logits.detach(), "x": x.grad, **found, **buffers}


@pytest.mark.parametrize("name", KINDS)
def test_the_parts_are_run_in_the_networks_order(name: str) -> None:
    # In float64, which the kernels leave to torch, nothing but the order can differ.
    plain = a_network(name).double()
    twin = copy.deepcopy(plain)
    wanted = everything(plain, plain, images().double())
    found = everything(twin, lambda x: fused_forward(twin, x), images().double())
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9, msg=key)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnet20", "plain20"])
def test_a_step_is_as_exact_as_one_operation_after_the_other(name: str, precision: torch.dtype) -> None:
    usual, fused, exact = a_network(name), a_network(name), a_network(name).double()
    wanted = everything(exact, exact, images(8).double())
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        found = everything(fused, lambda x: fused_forward(fused, x), images(8))
        others = everything(usual, usual, images(8))

    def error(each: dict[str, Tensor]) -> float:
        return float(torch.stack([(each[key] - value).norm() / value.norm() for key, value in wanted.items()]).median())

    assert error(found) < 1.5 * error(others)


def test_stochastic_depth_frozen_norms_and_dropout_stay_what_they_are() -> None:
    network = a_network("resnet18", drop_path_rate=0.5, drop_rate=0.3)
    network.bn1.eval()
    freeze_norms(network.get_submodule("layer2"))
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    torch.manual_seed(2)
    fused_forward(network, images())
    moved = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved
    assert not any(name.startswith(("bn1", "layer2")) for name in moved)


shapes = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(3, 9), st.integers(3, 9))


@settings(max_examples=60, deadline=None)
@given(shape=shapes, adds=st.booleans(), relu=st.booleans(), half=st.booleans(), threads=st.integers(1, 3))
def test_the_kernels_compute_the_formula(
    shape: tuple[int, ...], adds: bool, relu: bool, half: bool, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _check_the_formula(shape, adds, relu, torch.bfloat16 if half else torch.float32)
    finally:
        torch.set_num_threads(before)


def _check_the_formula(shape: tuple[int, ...], adds: bool, relu: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(sum(shape))

    def drawn(scale: float, middle: float) -> Tensor:
        values = (torch.randn(shape) * scale + middle).to(dtype)
        return values.contiguous(memory_format=torch.channels_last).requires_grad_()

    x, plus, g = drawn(2, 5), drawn(1, 0) if adds else None, drawn(1, 0).detach()
    norm = nn.BatchNorm2d(shape[1], momentum=0.3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    y = fusion._normalised(norm, x, plus=plus, relu=relu)
    y.backward(g)

    exact = [each.detach().double().requires_grad_() for each in (x, norm.weight, norm.bias)]
    z, w, b = exact
    mean, var = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), keepdim=True, unbiased=False)
    wanted = (z - mean) / (var + norm.eps).sqrt() * w.view(1, -1, 1, 1) + b.view(1, -1, 1, 1)
    shortcut = plus.detach().double().requires_grad_() if plus is not None else None
    wanted = wanted + shortcut if shortcut is not None else wanted
    # Where the value is zero but for rounding, either side of the ReLU is right: the kernels' own choice counts.
    wanted = wanted * (y > 0) if relu else wanted
    wanted.backward(g.double())

    close = {"rtol": 2e-2, "atol": 4e-2} if dtype == torch.bfloat16 else {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(y.double(), wanted.relu() if relu else wanted, **close)
    torch.testing.assert_close(x.grad.double(), z.grad, **close)
    torch.testing.assert_close(norm.weight.grad.double(), w.grad, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(norm.bias.grad.double(), b.grad, rtol=1e-2, atol=1e-2)
    if plus is not None and shortcut is not None:
        torch.testing.assert_close(plus.grad.double(), shortcut.grad, **close)
    n = x.numel() // shape[1]
    torch.testing.assert_close(norm.running_mean.double(), 0.3 * mean.flatten(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), 0.7 + 0.3 * var.flatten() * n / (n - 1), rtol=1e-4, atol=1e-4)
    assert norm.num_batches_tracked == 1


def test_the_same_step_gives_the_same_bytes() -> None:
    networks = [a_network("resnet18") for _ in range(2)]
    first, second = (everything(each, lambda x, each=each: fused_forward(each, x), images()) for each in networks)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_is_not_hidden(value: float, dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 4, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    x[1, 1, 2, 2] = value
    y = fusion._normalised(nn.BatchNorm2d(3), x.requires_grad_(), relu=True)
    assert y[:, 1].isnan().any()
    assert y[:, [0, 2]].isfinite().all()


def test_one_value_a_channel_is_refused_as_by_torch() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        fusion._normalised(nn.BatchNorm2d(3), torch.zeros(1, 3, 1, 1))


def test_auto_is_what_this_machine_and_network_can() -> None:
    assert choose_kernels("auto", a_network("resnet18")) == "fused"
    assert choose_kernels("auto", a_network("resnetv2_50")) == "torch"
    assert choose_kernels("auto", a_network("resnet50_gn")) == "torch"
    assert choose_kernels("torch", a_network("resnet18")) == "torch"
    # Fused batch norm keeps its statistics to itself, so several processes are torch's.
    assert choose_kernels("auto", a_network("resnet18"), processes=2) == "torch"
    with pytest.raises(InvalidArgument, match="this job has 2: train with --kernels torch"):
        choose_kernels("fused", a_network("resnet18"), processes=2)
    network = a_network("resnet18")
    torch.testing.assert_close(forward_of(network, "fused")(images()), network(images()), rtol=1e-3, atol=1e-3)


def test_a_run_made_elsewhere_says_that_it_needs_kernels(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "unavailable", lambda: "there is no C++ compiler")
    assert choose_kernels("auto", a_network("resnet18")) == "torch"
    with pytest.raises(InvalidArgument, match="no C\\+\\+ compiler; train with --kernels torch"):
        forward_of(a_network("resnet18"), "fused")


@pytest.mark.parametrize(("compiler", "said"), [("/nonexistent/c++", "failed"), ("false", "failed")])
def test_without_a_working_compiler_it_says_so(compiler: str, said: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    code = "import torch; from resnetkit.training import kernels; print(kernels.unavailable())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said in found.stdout
    assert not list(tmp_path.rglob("*.so"))


def test_without_a_place_to_keep_them_nothing_but_speed_is_lost(monkeypatch) -> None:
    def nowhere() -> Path:
        raise WriteFailed("this user has no home folder to keep anything in")

    monkeypatch.setattr(kernels, "cache_folder", nowhere)
    monkeypatch.setattr(kernels, "library", kernels.library.__wrapped__)
    why = kernels.unavailable.__wrapped__()
    assert why
    assert "no home folder" in why or not sys.platform.startswith("linux")


def test_two_processes_that_build_at_once_both_work(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    code = "import torch; from resnetkit.training import kernels; print(kernels.unavailable())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [each.communicate()[0].strip() for each in started] == ["None", "None"]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_convolutions_to_one_pixel_are_computed_as_products(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
        asked.append(tuple(x.shape[1:]))
        return conv(x)

    monkeypatch.setattr(fusion, "convolve", convolve)
    fused_forward(a_network("resnet18"), images(2, 24))  # 24×32 pixels: 1×1 behind the last halving
    assert asked == [(256, 2, 2), (512, 1, 1), (512, 1, 1), (512, 1, 1)]
