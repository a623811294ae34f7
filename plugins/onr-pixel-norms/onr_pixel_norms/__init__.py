"""Norms of images over whole pixels, for onr."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_norms() -> list[Entry]:
    """Offer both norms, each the other's dual."""
    return [
        Entry("pixel-sum", "onr_pixel_norms.norms:PixelSum", "sum over pixels of colours' l2"),
        Entry("pixel-max", "onr_pixel_norms.norms:PixelMax", "largest pixel of colours' l2"),
    ]
