"""Networks: torch modules and nothing else, built from the catalogue's rows."""

from resnetkit.description import Description
from resnetkit.models.build import build
from resnetkit.models.describe import describe
from resnetkit.models.features import FeatureExtractor
from resnetkit.models.hollow import build_hollow
from resnetkit.models.network import FeatureInfo, Network
from resnetkit.models.transfer import checkpoint_blocks, fit_weights

__all__ = [
    "Description", "FeatureExtractor", "FeatureInfo", "Network",
    "build", "build_hollow", "checkpoint_blocks", "describe", "fit_weights",
]  # fmt: skip
