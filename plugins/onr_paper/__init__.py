"""The norms, losses, attacks, models, data sets, methods and settings of the paper, as a plugin."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_norms() -> list[Entry]:
    """The lp norms. A bare number such as ``1.5`` resolves to ``lp:1.5``."""
    return [
        Entry("1", "onr.norms:l1", "sum of magnitudes"),
        Entry("2", "onr.norms:l2", "Euclidean"),
        Entry("inf", "onr.norms:linf", "largest magnitude"),
        Entry("lp", "onr.text:lp", "lp:P, for any real P >= 1"),
    ]


@hookimpl
def onr_losses() -> list[Entry]:
    """The losses of section 7.4 and Eq. 108, and the margin."""
    return [
        Entry("cross-entropy", "onr.text:cross_entropy", "softmax, Eq. 26; :BETA for temperature"),
        Entry(
            "targeted-cross-entropy",
            "onr.text:targeted_cross_entropy",
            "towards the given label, Eq. 27",
        ),
        Entry("lq", "onr.text:logit_distance", "lq:Q, distance of the logits, Eq. 108"),
        Entry("margin", "onr.losses:Margin", "largest other logit minus that of the label"),
    ]


@hookimpl
def onr_attacks() -> list[Entry]:
    """The paper's attacks, random noise as a control, and the strongest that we know."""
    return [
        Entry(
            "multitargeted",
            "onr.attacks.multitargeted:MultiTargeted",
            "margin ascent, then the nearest classes; broken images leave at once",
        ),
        Entry(
            "pga",
            "onr.attacks.projected_gradient:ProjectedGradientAscent",
            "projected gradient ascent, Eq. 18",
        ),
        Entry(
            "fgm", "onr.attacks.fast_gradient:FastGradient", "the fast gradient method, one step"
        ),
        Entry("noise", "onr.attacks.noise:Noise", "a random direction at the full radius"),
    ]


@hookimpl
def onr_models() -> list[Entry]:
    """The networks of section 7.10."""
    return [
        Entry("mlp", "onr_paper.models:mlp", "two hidden layers"),
        Entry("cnn7", "onr_paper.models:cnn7", "the paper's 7-layer CNN"),
    ]


@hookimpl
def onr_datasets() -> list[Entry]:
    """Data sets: bundled, downloaded, and from the user's own files."""
    return [
        Entry("digits", "onr_paper.datasets:digits", "8 x 8 digits that scikit-learn ships"),
        Entry("cifar10", "onr_paper.datasets:cifar10", "CIFAR-10, through torchvision"),
        Entry("svhn", "onr_paper.datasets:svhn", "SVHN cropped digits, through torchvision"),
        Entry("npz", "onr_paper.array_files:npz", "npz:STEM, STEM-test.npz and STEM-train.npz"),
        Entry("stored", "onr_paper.array_files:stored", "stored:NAME, npz:NAME in --data-dir"),
        Entry(
            "folder", "onr_paper.photographs:folder", "folder:PATH, PATH/{test,train}/CLASS/IMAGE"
        ),
    ]


@hookimpl
def onr_methods() -> list[Entry]:
    """The training methods of section 4, methods to compare with, and two of our own."""
    return [
        Entry("standard", "onr_paper.methods:Standard", "cross-entropy on clean inputs"),
        Entry(
            "at",
            "onr_paper.adversarial_training:adversarial_training",
            "adversarial training, Eq. 14",
        ),
        Entry(
            "dd-snr",
            "onr_paper.operator_norm_regularization:dd_snr",
            "data-dependent spectral norm, Eq. 7",
        ),
        Entry(
            "dd-onr",
            "onr_paper.operator_norm_regularization:dd_onr",
            "data-dependent operator norm, Eq. 13",
        ),
        Entry(
            "dd-onr-exact",
            "onr_paper.operator_norm_regularization:dd_onr_exact",
            "dd-onr at the exact maximiser, by d vjps",
        ),
        Entry(
            "dd-snr-warm",
            "onr_paper.warm_start:dd_snr_warm",
            "dd-snr with one vjp a step, from noise, by memory or loss",
        ),
        Entry(
            "global-snr", "onr_paper.global_snr:GlobalSpectralNorm", "global spectral norm, Eq. 5"
        ),
        Entry(
            "interpolate", "onr_paper.interpolation:interpolate", "between at and dd-snr, Fig. 7"
        ),
        Entry(
            "input-gradient",
            "onr_paper.first_order:InputGradient",
            "norm of the loss's gradient, section 7.2",
        ),
        Entry("frobenius", "onr_paper.first_order:FrobeniusNorm", "Frobenius norm, section 7.3"),
    ]


@hookimpl
def onr_presets() -> list[Entry]:
    """The hyper-parameters of Table 2."""
    return [
        Entry("paper", "onr_paper.presets:paper", "paper:cifar10-at-l2 and others, Table 2"),
    ]


@hookimpl
def onr_grids() -> list[Entry]:
    """The hyper-parameter grids of Table 3."""
    return [
        Entry("paper", "onr_paper.grids:paper", "paper:table3-dd-snr and others, Table 3"),
    ]
