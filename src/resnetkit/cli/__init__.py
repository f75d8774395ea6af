"""The command: one short file a verb. Importing this never imports torch, so that `--help` answers at once."""

import errno
import os
import sys
import time
import traceback
from collections.abc import Sequence
from io import TextIOWrapper

from cyclopts import App, CycloptsError, Group, Parameter
from rich.console import Console

from resnetkit import __version__
from resnetkit.data.memory import keep_freed_memory
from resnetkit.errors import InvalidArgument, ResnetkitError

BEGAN = time.monotonic()
"""when this process began, as near as matters: a budget of minutes counts from here"""

_USE = Group("Verbs", sort_key=1)

# Read downward, this is the story a newcomer is told.
_VERBS = {
    "demo": ("demo:demo_command", "Train, check and use a network on real handwritten digits.", "resnetkit demo"),
    "list": ("listing:list_command", "Show the architectures that can be built.", 'resnetkit list "resnet5*"'),
    "describe": (
        "describe:describe_command",
        "Show shapes, parameters and work, stage by stage.",
        "resnetkit describe resnet34 --input-size 3,224,224",
    ),
    "check": (
        "check:check_command",
        "Look for broken files, copies and missing classes before training.",
        "resnetkit check photos --fix clean.csv",
    ),
    "train": (
        "train:train_command",
        "Train on folders of pictures, or continue a run.",
        "resnetkit train photos --model resnet18 --epochs 10",
    ),
    "evaluate": (
        "evaluate:evaluate_command",
        "Score a model on labelled pictures.",
        "resnetkit evaluate runs/train photos",
    ),
    "predict": (
        "predict:predict_command",
        "Say what is on pictures.",
        "resnetkit predict runs/train photo.jpg holiday/ --top-k 3",
    ),
    "benchmark": (
        "benchmark:benchmark_command",
        "Measure how fast a model computes here, in each runtime.",
        "resnetkit benchmark resnet50 --batch-size 16",
    ),
    "export": (
        "export:export_command",
        "Write a network as a file that other runtimes take.",
        "resnetkit export runs/train --format onnx",
    ),
    "verify": (
        "verify:verify_command",
        "Check that an exported file still says what its network said.",
        "resnetkit verify runs/train/export/model.onnx",
    ),
    "adopt": (
        "adopt:adopt_command",
        "Turn a stranger's checkpoint into a model file.",
        "resnetkit adopt resnet20.th --output resnet20.safetensors",
    ),
}


def build_app() -> App:
    """The command line with all its verbs, each loaded only when it is called."""
    app = App(
        name="resnetkit",
        help="Build, understand, train, check and use any ResNet.",
        help_epilogue="Begin with: resnetkit demo. Each verb explains itself: resnetkit train --help",
        help_format="markdown",
        version=__version__,
        default_parameter=Parameter(negative=""),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        error_console=Console(stderr=True),
    )
    for order, (verb, (place, summary, example)) in enumerate(_VERBS.items()):
        app.command(
            f"resnetkit.cli.{place}",
            name=verb, help=summary, help_epilogue=f"Example: {example}", sort_key=order, group=_USE,
        )  # fmt: skip
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and leave with its exit code: 0 done, 1 could not, 2 wrong words, 130 or 143 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    keep_freed_memory()
    _prepare_streams()
    try:
        _check_place()
        code = build_app()(words, exit_on_error=False)
        sys.stdout.flush()
    except CycloptsError:
        sys.exit(2)  # cyclopts has said on stderr what was wrong
    except ResnetkitError as error:
        _complain(str(error), words)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _complain("stopped", words)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output (head, less) has had enough. Closing stderr keeps Python from complaining at exit.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if _is(errno.ENOSPC, error):
            # Else Python would try once more to write what is left, as it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _complain(_said_of(error), words)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _prepare_streams() -> None:
    """Letters that a stream's encoding lacks are escaped; where there is no stream, words go nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as the process)
        elif isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _check_place() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise InvalidArgument("the working folder is gone: change to one that is there") from error


def _is(number: int, error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == number


def _said_of(error: Exception) -> str:
    if _is(errno.ENOSPC, error):
        return "there is no space left where the output goes"
    if _is(errno.ENAMETOOLONG, error):
        return f"no file has so long a name: {str(getattr(error, 'filename', ''))[:40]}…"
    return f"unexpected {type(error).__name__}: {error} (run again with --debug and report what it shows)"


def _complain(text: str, words: Sequence[str]) -> None:
    if "--debug" in words:
        traceback.print_exc()
    print(f"resnetkit: {text}", file=sys.stderr)
