"""A plugin for onr: norms of images that treat a pixel, with all its colours, as one unit."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_norms() -> list[Entry]:
    """Register both norms; each is the dual of the other."""
    return [
        Entry("pixel-sum", "onr_pixel_norms.norms:PixelSum", "sum of the pixels' l2 norms"),
        Entry("pixel-max", "onr_pixel_norms.norms:PixelMax", "largest l2 norm of a pixel"),
    ]
