"""A plugin for onr: training rules that cost little more than a step of standard training."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_methods() -> list[Entry]:
    """Register four rules of one attack step, and TRADES, whose quality they aim at."""
    return [
        Entry("rs-fgsm", "onr_fast_training.fgsm:rs_fgsm", "one step from noise, in the ball"),
        Entry("n-fgsm", "onr_fast_training.fgsm:n_fgsm", "one step after noise, not clipped"),
        Entry("gat", "onr_fast_training.guided:gat", "one step, and the change of the softmax"),
        Entry("nuat", "onr_fast_training.guided:nuat", "one step, and a nuclear norm"),
        Entry("trades", "onr_fast_training.trades:trades", "ten steps of the KL divergence"),
    ]
