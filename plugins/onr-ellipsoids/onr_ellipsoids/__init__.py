"""A plugin for onr: l2 norms that weigh pixels, frequencies or principal components."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_norms() -> list[Entry]:
    """Register the ellipsoids of files and their duals, and those of frequencies."""
    at = "onr_ellipsoids.norms"
    return [
        Entry("ellipsoid", f"{at}:ellipsoid", "weighted l2 norm, axes from a file: ellipsoid:FILE"),
        Entry("ellipsoid-dual", f"{at}:ellipsoid_dual", "the dual of ellipsoid:FILE"),
        Entry("frequency", f"{at}:frequency", "l2 norm, frequency f times max(1, f)^POWER (1)"),
    ]


@hookimpl
def onr_commands() -> list[Entry]:
    """Register the command that measures the axes of a data set."""
    return [
        Entry("ellipsoid-of", "onr_ellipsoids.command:ellipsoid_of", "Measure the axes of data.")
    ]
