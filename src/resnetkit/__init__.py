"""resnetkit: build, understand, train, check and use any ResNet.

    import resnetkit as rk

    network = rk.create_model("resnet34", num_classes=37)
    result = rk.train("photos", epochs=10)
    rk.Predictor(result.run)("photo.jpg").top(5)

The names below are the front door. Each is imported when it is first used, so `import resnetkit` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "ResnetkitError": "resnetkit.errors",
    "adopt": "resnetkit.api.adopting",
    "architecture": "resnetkit.catalog.architectures",
    "check": "resnetkit.api.checking",
    "create_model": "resnetkit.api.networks",
    "describe": "resnetkit.api.describing",
    "evaluate": "resnetkit.api.evaluating",
    "export": "resnetkit.api.exporting",
    "find_lr": "resnetkit.api.finding",
    "list_models": "resnetkit.api.catalogue",
    "load": "resnetkit.api.networks",
    "predict": "resnetkit.api.predicting",
    "Predictor": "resnetkit.deployment.predictor",
    "resnet101": "resnetkit.api.networks",
    "resnet152": "resnetkit.api.networks",
    "resnet18": "resnetkit.api.networks",
    "resnet34": "resnetkit.api.networks",
    "resnet50": "resnetkit.api.networks",
    "train": "resnetkit.api.training",
    "verify": "resnetkit.api.verifying",
}

if TYPE_CHECKING:
    from resnetkit.api.adopting import adopt
    from resnetkit.api.catalogue import list_models
    from resnetkit.api.checking import check
    from resnetkit.api.describing import describe
    from resnetkit.api.evaluating import evaluate
    from resnetkit.api.exporting import export
    from resnetkit.api.finding import find_lr
    from resnetkit.api.networks import create_model, load, resnet18, resnet34, resnet50, resnet101, resnet152
    from resnetkit.api.predicting import predict
    from resnetkit.api.training import train
    from resnetkit.api.verifying import verify
    from resnetkit.catalog.architectures import architecture
    from resnetkit.deployment.predictor import Predictor
    from resnetkit.errors import ResnetkitError

__all__ = [
    "Predictor",
    "ResnetkitError",
    "adopt",
    "architecture",
    "check",
    "create_model",
    "describe",
    "evaluate",
    "export",
    "find_lr",
    "list_models",
    "load",
    "predict",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "train",
    "verify",
]


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'resnetkit' has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
