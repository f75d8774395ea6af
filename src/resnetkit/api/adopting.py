"""Turn a stranger's checkpoint into a model file, or write a network back in another project's names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetkit.checkpoints import modelfile
from resnetkit.checkpoints.adopt import adopt as adopt_file
from resnetkit.checkpoints.report import Report
from resnetkit.checkpoints.writeback import write_back
from resnetkit.deployment.stated import Stated
from resnetkit.errors import InvalidArgument


@dataclass(frozen=True)
class Adoption:
    """What a file turned out to be, where the result lies, and what became of every tensor."""

    source: Path
    output: Path
    card: modelfile.ModelCard
    report: Report

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "source": str(self.source), "output": str(self.output), "architecture": self.card.architecture,
            "num_classes": self.card.num_classes, "in_chans": self.card.in_chans, "report": self.report.to_dict(),
        }  # fmt: skip


def adopt(
    path: str | Path, output: str | Path | None = None, *, target: str | None = None, stated: Stated | None = None
) -> Adoption:
    """Recognise the network in a foreign weights file by tensor names and shapes, and write it as a model file.

    `output` is by default the file's name with `.adopted.safetensors` beside it; nothing is overwritten. `target`
    "torchvision" or "timm" writes the bare tensors under that project's names instead. Nothing in the file is run.
    Raises UnsafeFile, CheckpointError (with the nearest match and the first differences) and InvalidArgument.
    """
    source, stated = Path(path), stated or Stated()
    goal = Path(output) if output is not None else source.with_suffix(f".{target or 'adopted'}.safetensors")
    if goal.exists():
        raise InvalidArgument(f"{goal} exists: name another file with --output, or remove it")
    if modelfile.is_model_file(source):
        state, card = modelfile.read(source)
        report = Report(layout="resnetkit", matched=())
    else:
        adopted = adopt_file(source, stride_at=stated.stride_at, row=stated.architecture)
        state, card, report = adopted.state, adopted.card, adopted.report
    card = stated.apply(card)
    if target is None:
        modelfile.save(goal, state, card)
    else:
        write_back(goal, state, card.row, target)
    return Adoption(source, goal, card, report)
