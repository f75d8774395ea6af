"""The benchmark measures what is there, says how near it comes to the limit, and calibrates int8 on real pictures."""

import sys
from pathlib import Path

import pytest
import torch

from resnetkit.api import benchmarking
from resnetkit.api.benchmarking import benchmark, matrix_limit
from resnetkit.api.describing import describe
from resnetkit.deployment.probing import usual_precisions
from resnetkit.errors import InvalidArgument, MissingExtra
from resnetkit.tasks.bf16 import has_native_bf16


def test_every_runtime_that_was_asked_for_is_measured(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    result = benchmark(
        digits_run, data="digits", batches=(4, 1), backends=("torch", "openvino"), rounds=1, seconds=0.05
    )
    cells = {(row.backend, row.precision, row.mode, row.batch) for row in result.results}
    assert ("torch", "float32", "latency", 4) in cells
    assert (("openvino", "bf16", "throughput", 1) in cells) == has_native_bf16(torch.device("cpu"))
    assert len(cells) == len(usual_precisions()) * (2 * 1 + 2 * 2)
    for row in result.results:
        assert row.images_per_second == pytest.approx(1000 * row.batch / row.p50_ms)
        assert row.top1_agreement == 1.0
        share = 2 * result.macs * row.images_per_second / 1e9 / result.limits[row.precision]
        assert row.limit_share == pytest.approx(share)
    assert result.macs == describe(digits_run).macs, "of ten classes"
    assert result.limits["float32"] > 1
    assert result.to_dict()["results"][0].keys() >= {
        "backend", "precision", "batch", "images_per_second", "p50_ms", "top1_agreement"
    }  # fmt: skip


@pytest.mark.slow
def test_int8_is_calibrated_on_the_data(digits_run: Path) -> None:
    result = benchmark(
        digits_run, data="digits", batches=(16,), backends=("openvino",), precisions=("int8",), rounds=1, seconds=0.05
    )
    assert {row.precision for row in result.results} == {"int8"}
    assert all(row.top1_agreement >= 0.9 for row in result.results)


def test_what_cannot_be_measured_is_said(digits_run: Path) -> None:
    with pytest.raises(InvalidArgument, match="give some with --data"):
        benchmark(digits_run, precisions=("int8",))
    with pytest.raises(InvalidArgument, match="choose from torch"):
        benchmark(digits_run, backends=("tensorrt",))


def test_a_precision_that_nobody_named_is_left_out_where_no_backend_has_it(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(benchmarking, "usual_precisions", lambda: ("float32", "bf16"))  # whatever this processor has
    found = benchmark(digits_run, data="digits", backends=("onnxruntime",), rounds=1, seconds=0.01, batches=(1,))
    assert {row.precision for row in found.results} == {"float32"}


@pytest.mark.parametrize(("precisions", "backends"), [(None, ("onnxruntime",)), (("int8",), ("openvino",))])
def test_a_runtime_that_is_asked_for_and_not_there_names_the_extra(
    precisions: tuple[str, ...] | None, backends: tuple[str, ...], digits_run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == backends[0]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, backends[0], None)
    with pytest.raises(MissingExtra, match="pip install"):
        benchmark(digits_run, data="digits", backends=backends, precisions=precisions, rounds=1, seconds=0.01)


@pytest.mark.parametrize(
    ("precisions", "backends"),
    [(("int8",), ("onnxruntime",)), (("float32", "int8"), ("onnxruntime",)), (("int8",), ("torch", "openvino"))],
)
def test_a_precision_that_nothing_named_computes_is_said(
    precisions: tuple[str, ...], backends: tuple[str, ...], digits_run: Path
) -> None:
    with pytest.raises(InvalidArgument, match="not in int8: int8 comes from calibration"):
        benchmark(digits_run, data="digits", backends=backends, precisions=precisions)


def test_a_matrix_product_has_a_speed() -> None:
    assert matrix_limit("float32") > 1


@pytest.mark.parametrize(("speed", "largest"), [(1e12, 2048), (1e9, 512)])
def test_a_slow_product_is_measured_on_small_matrices(
    speed: float, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 on a processor without it one product of 2048 takes twelve seconds."""
    sides = []

    def seconds(_: str, side: int) -> float:
        sides.append(side)
        return 2 * side**3 / speed

    monkeypatch.setattr(benchmarking, "_product_seconds", seconds)
    assert matrix_limit("bf16") == pytest.approx(speed / 1e9)
    assert max(sides) == largest
