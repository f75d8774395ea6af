"""`resnetkit benchmark`."""

from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from resnetkit.cli.console import percent, print_json, remarks, results
from resnetkit.cli.flags import Common, StatedFlags, stated_by

_STATED = StatedFlags()
_NONE = Common()

BackendName = Literal["torch", "compile", "onnxruntime", "openvino"]
PrecisionName = Literal["float32", "bf16", "int8"]


def benchmark_command(
    *models: str,
    data: str | None = None,
    batch_size: Annotated[tuple[int, ...], Parameter(name=["--batch-size", "-b"])] = (16, 1),
    backend: tuple[BackendName, ...] = (),
    precision: tuple[PrecisionName, ...] = (),
    rounds: int = 5,
    stated: StatedFlags = _STATED,
    common: Common = _NONE,
) -> int:
    """Measure how fast models compute here, in every runtime that is installed. All take turns; medians are shown.

    Parameters
    ----------
    models
        Architectures' names, run folders, model files, exported files or foreign checkpoints.
    data
        Labelled pictures to measure on, as for train (default: random pixels). int8 is calibrated on them.
    batch_size
        Images computed at once; may be given several times.
    backend
        A runtime to measure; may be given several times (default: all that are installed).
    precision
        What to compute in; may be given several times (default: float32, and bf16 where the processor and a
        backend have it; an exported file has its own). int8 is OpenVINO's.
    rounds
        Measurements of each.
    """
    from resnetkit.api.benchmarking import benchmark
    from resnetkit.errors import InvalidArgument

    if not models:
        raise InvalidArgument("name at least one model: resnetkit benchmark resnet50")
    measured = []
    for model in models:
        measured.append(
            benchmark(
                model, data=data, batches=batch_size, backends=backend or None, precisions=precision or None,
                rounds=rounds, stated=stated_by(stated),
                progress=lambda text, model=model: remarks.print(f"{model}: {text}"),  # type: ignore[misc]
            )
        )  # fmt: skip
    if common.json:
        print_json(measured[0].to_dict() if len(measured) == 1 else [each.to_dict() for each in measured])
        return 0
    for each in measured:
        limits = ", ".join(f"{name} {value:,.0f}" for name, value in each.limits.items())
        work = f": {each.macs / 1e9:.2f} billion multiply-adds an image" if each.macs else ""
        results.print(
            f"{each.model} on {each.images}{work}\n"
            f"{each.processor}, {each.cores} cores; matrix product in billions of operations a second: {limits}"
        )
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("runtime", "precision", "mode", "batch", "images/s", "ms", "same class", "of limit"):
            table.add_column(column, justify="left" if column in ("runtime", "precision", "mode") else "right")
        for row in each.results:
            table.add_row(
                row.backend, row.precision, row.mode, str(row.batch), f"{row.images_per_second:.1f}",
                f"{row.p50_ms:.1f}",
                "–" if row.top1_agreement is None else percent(row.top1_agreement),
                percent(row.limit_share) if row.limit_share else "–",
            )  # fmt: skip
        results.print(table)
        results.print(
            "ms: between two answers, median of rounds; same class: as torch in float32; limit: of a matrix product"
        )
    return 0
