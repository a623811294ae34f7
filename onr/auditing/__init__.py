"""The audit of a model: how sensitive it is, what an attack achieves, and whether to believe it."""

from onr.hookspecs import Entry, hookimpl

_CHECKS = "onr.auditing.checks"


@hookimpl
def onr_checks() -> list[Entry]:
    """The checks of the project, one file each."""
    return [
        Entry(
            "outputs-vary",
            f"{_CHECKS}.outputs_vary:OutputsVary",
            "the model gives different answers for one image",
        ),
        Entry(
            "probabilities",
            f"{_CHECKS}.probabilities:Probabilities",
            "the outputs are probabilities, not logits",
        ),
        Entry("zero-gradients", f"{_CHECKS}.zero_gradients:ZeroGradients", "the gradient vanishes"),
        Entry(
            "inner-gradients",
            f"{_CHECKS}.inner_gradients:InnerGradients",
            "the forward pass computes gradients itself",
        ),
        Entry(
            "black-box",
            f"{_CHECKS}.black_box:BlackBox",
            "a search without gradients beats the attack",
        ),
        Entry(
            "graph-cut",
            f"{_CHECKS}.graph_cut:GraphCut",
            "the gradient is not that of what the model computes",
        ),
        Entry(
            "loss-still-moves",
            f"{_CHECKS}.loss_still_moves:LossStillMoves",
            "the attack has not converged",
        ),
        Entry(
            "silent-success",
            f"{_CHECKS}.silent_success:SilentSuccess",
            "adversarial examples are found and lost",
        ),
        Entry("noisy-loss", f"{_CHECKS}.noisy_loss:NoisyLoss", "the loss is noisy"),
        Entry("unbounded", f"{_CHECKS}.unbounded:Unbounded", "an attack without a bound fails"),
        Entry(
            "not-monotone", f"{_CHECKS}.not_monotone:NotMonotone", "a stronger attack does worse"
        ),
        Entry("one-step", f"{_CHECKS}.one_step:OneStep", "one step beats many"),
        Entry(
            "scale", f"{_CHECKS}.scale:Scale", "the usual attack depends on the scale of the logits"
        ),
        Entry("rho", f"{_CHECKS}.rho:Rho", "the gradient does not describe the ball"),
        Entry(
            "weaker-than-first-order",
            f"{_CHECKS}.weaker_than_first_order:WeakerThanFirstOrder",
            "the attack misses what the gradient shows",
        ),
        Entry(
            "planted", f"{_CHECKS}.planted:Planted", "adversarial examples that exist are not found"
        ),
        Entry("chance", f"{_CHECKS}.chance:Chance", "clean accuracy is that of guessing"),
        Entry(
            "outside-box",
            f"{_CHECKS}.outside_box:OutsideBox",
            "images lie outside the box, or are constant",
        ),
        Entry(
            "refused", f"{_CHECKS}.refused:Refused", "the model is no function with a derivative"
        ),
    ]
