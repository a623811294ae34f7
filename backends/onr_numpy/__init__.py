"""The dense reference backend: small ReLU networks as explicit matrices, in NumPy."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_backends() -> list[Entry]:
    """Offer the backend ``numpy``."""
    target, summary = "onr_numpy.backend:NumpyBackend", "dense reference, small networks"
    return [Entry("numpy", target, summary, arrays=("numpy",))]
