"""A finding about brightness and contrast: pixels that reach the network far from where it expects them."""

from collections.abc import Sequence

import numpy as np

from resnetkit.catalog.preprocessing import Normalisation, Preprocess
from resnetkit.data.findings import Finding

_SHIFT = 1.0  # standard deviations that the mean may be off
_STRETCH = 2.0  # times as wide, or as narrow, that the pixels may be spread
_CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}


def normalisation_findings(
    measured: Normalisation | None, preprocess: Preprocess, *, train: str, trained: bool
) -> list[Finding]:
    """Of the data's mean and std beside the preprocessing's; `trained` says that a trained model expects the latter.

    >>> found = normalisation_findings(((0.05,), (0.1,)), Preprocess.for_size(8, mean=(0.5,), std=(0.25,)),
    ...     train="resnetkit train x", trained=False)
    >>> found[0].names, found[0].remedy
    (('grey: mean 0.050, std 0.100 (0.500, 0.250 expected)',), 'resnetkit train x --normalise-by data')
    """
    if measured is None:
        return []
    mean, std = np.array(measured[0]), np.array(measured[1])
    wanted_mean, wanted_std = np.array(preprocess.mean), np.array(preprocess.std)
    shift, stretch = (mean - wanted_mean) / wanted_std, std / wanted_std
    off = np.flatnonzero((np.abs(shift) > _SHIFT) | (stretch > _STRETCH) | (stretch * _STRETCH < 1)).tolist()
    if not off:
        return []
    arrive = f"pixels reach the network with mean {_listed(shift)} and std {_listed(stretch)} in place of 0 and 1"
    return [
        Finding(
            kind="normalisation", level="caution", title="brightness or contrast far from what the network expects",
            count=len(off), of=len(mean), names=tuple(
                f"{_CHANNELS[len(mean)][channel]}: mean {mean[channel]:.3f}, std {std[channel]:.3f} "
                f"({wanted_mean[channel]:.3f}, {wanted_std[channel]:.3f} expected)"
                for channel in off
            ),
            consequence=f"{arrive}; the model has learnt from others: are these exposed otherwise, or inverted?"
            if trained else f"{arrive}, which its norms have to make up for",
            remedy=None if trained else f"{train} --normalise-by data",
        )
    ]  # fmt: skip


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
