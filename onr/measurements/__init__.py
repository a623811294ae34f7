"""Measurements of a network around inputs: accuracy, norms, spectrum, alignment, linearity.

Each measurement takes ``(network, x, y)`` and objects instead of names, and returns rows.
:mod:`onr.measure` is the public form, which takes models and names.
"""

from onr.measurements.accuracy import accuracy, share
from onr.measurements.activations import activations
from onr.measurements.alignment import alignment
from onr.measurements.attack_outcomes import attack_outcome
from onr.measurements.directions import directions
from onr.measurements.linearity import linearity
from onr.measurements.norms import norms
from onr.measurements.predictions import logits
from onr.measurements.spectrum import spectrum

__all__ = [
    "accuracy",
    "activations",
    "alignment",
    "attack_outcome",
    "directions",
    "linearity",
    "logits",
    "norms",
    "share",
    "spectrum",
]
