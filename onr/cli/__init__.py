"""The command line; the commands here need only the registry."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_commands() -> list[Entry]:
    """Train, once or at every point of a grid; evaluate; measure; list plugins."""
    return [
        Entry("train", "onr.cli.train:train", "Train a classifier with any method."),
        Entry("sweep", "onr.cli.sweep:sweep", "Train every point of a grid."),
        Entry(
            "evaluate",
            "onr.cli.evaluate:evaluate",
            "Measure a run or a model: accuracy under attack.",
        ),
        Entry("measure", "onr.cli.measure:measure", "Measure any model's Jacobian around data."),
        Entry("plugins", "onr.cli.plugins:plugins", "List what is installed, and what is broken."),
    ]
