"""The command line: the core commands, offered through the same hook as those of plugins."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_commands() -> list[Entry]:
    """The commands to train, sweep, evaluate, measure, and list plugins."""
    return [
        Entry("train", "onr.cli.train:train", "Train a classifier with any method."),
        Entry("sweep", "onr.cli.sweep:sweep", "Train every point of a grid."),
        Entry(
            "evaluate",
            "onr.cli.evaluate:evaluate",
            "Measure a run or a model: accuracy under attack.",
        ),
        Entry(
            "measure",
            "onr.cli.measure:measure",
            "Measure a run or a model: norms and more.",
        ),
        Entry("audit", "onr.cli.audit:audit", "Audit a run or a model: one page, with flags."),
        Entry("compare", "onr.cli.audit:compare", "Compare two audits, image by image."),
        Entry("explain", "onr.cli.audit:explain", "Say what a flag of an audit means."),
        Entry("plugins", "onr.cli.plugins:plugins", "List what is installed, and what is broken."),
    ]
