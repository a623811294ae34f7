"""Checks of the paper's claims: Theorem 1, the lemmas, Table 1, all figures and tables."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_commands() -> list[Entry]:
    """Offer the commands that check the theory, show the project at work, reproduce the paper."""
    return [
        Entry(
            "verify-theorem",
            "onr_validation.theorem.command:verify_theorem",
            "Check Theorem 1 on random ReLU networks.",
        ),
        Entry(
            "verify-lemmas",
            "onr_validation.lemmas.lemmas_command:verify_lemmas",
            "Check Lemmas 1 to 3, Eqs. 28 and 29, section 7.1.",
        ),
        Entry(
            "verify-table1",
            "onr_validation.lemmas.table_command:verify_table1",
            "Check every entry of Table 1 against brute force.",
        ),
        Entry(
            "demo",
            "onr_validation.demo.command:demo",
            "Check the theorem, train three methods, write a page.",
        ),
        Entry(
            "reproduce",
            "onr_validation.reproduction.command:reproduce",
            "Reproduce the paper's figures and tables.",
        ),
        Entry(
            "report",
            "onr_validation.reproduction.report:report",
            "Gather what was reproduced into one page.",
        ),
    ]


@hookimpl
def onr_experiments() -> list[Entry]:
    """Offer the paper's figures and tables, and experiments that go beyond the paper."""
    found = "onr_validation.experiments"
    return [
        Entry("fig2", f"{found}.fig2:Figure2", "singular values and alignment by rank"),
        Entry("fig3", f"{found}.fig3:Figure3", "accuracy against eps, CNN7 and WRN"),
        Entry("fig4", f"{found}.fig4:Figure4", "deviation from linearity, largest singular value"),
        Entry("fig5", f"{found}.fig5:Figure5", "shared activations around data and noise"),
        Entry("fig6", f"{found}.fig6:Figure6", "adversarial training against alpha"),
        Entry("fig7", f"{found}.fig7:Figure7", "between adversarial training and d.d. SNR"),
        Entry("fig8", f"{found}.fig8:Figure8", "alignment against eps"),
        Entry("fig9", f"{found}.fig9:Figure9", "shared activations along attacks"),
        Entry("fig10", f"{found}.fig10:Figure10", "global SNR, 1 and 10 iterations: linearity"),
        Entry("fig11", f"{found}.fig11:Figure11", "global SNR, 1 and 10 iterations: accuracy"),
        Entry("fig12", f"{found}.fig12:Figure12", "linearity along linf attacks"),
        Entry("fig13", f"{found}.fig13:Figure13", "l2-trained networks under linf attacks"),
        Entry("fig14", f"{found}.fig14:Figure14", "linf-trained networks under linf attacks"),
        Entry("fig15", f"{found}.fig15:Figure15", "accuracy against eps on SVHN"),
        Entry("table1", f"{found}.table1:Table1", "the operator norms against brute force"),
        Entry("table2", f"{found}.table2:Table2", "accuracies and hyper-parameters"),
        Entry("table3", f"{found}.table3:Table3", "the hyper-parameter sweep"),
        Entry("fig2-own", f"{found}.fig2:own", "Fig. 2 for the methods that the paper lacks"),
        Entry("fig3-own", f"{found}.fig3:own", "Fig. 3 for the methods that the paper lacks"),
        Entry("fig4-own", f"{found}.fig4:own", "Fig. 4 for the methods that the paper lacks"),
        Entry("fig5-own", f"{found}.fig5:own", "Fig. 5 for the methods that the paper lacks"),
        Entry("fig8-own", f"{found}.fig8:own", "Fig. 8 for the methods that the paper lacks"),
        Entry("foils", f"{found}.foils:Foils", "sections 7.2 and 7.3, tested"),
        Entry("directions", f"{found}.directions:Directions", "attacks and maximisers, nine norms"),
        Entry("norms", f"{found}.brackets:Brackets", "all nine norms before and after training"),
        Entry("frontier", f"{found}.frontier:Frontier", "fast robust training beside ten steps"),
        Entry("frontier-small", f"{found}.frontier:small", "the same at one ball, in minutes"),
    ]


@hookimpl
def onr_grids() -> list[Entry]:
    """Offer the models of the frontiers of fast training, and the search for their settings."""
    return [
        Entry("frontier", "onr_validation.grids:frontier", "frontier:SCALE, fast robust training"),
    ]


@hookimpl
def onr_measurements() -> list[Entry]:
    """Offer what the paper measures, and the check of Table 1."""
    found = "onr.measurements"
    return [
        Entry(
            "accuracy",
            "onr_validation.experiments.accuracy_curves:accuracy",
            "accuracy, clean and under the paper's attack",
        ),
        Entry("norms", f"{found}.norms:norms", "both bounds of the (p, q) operator norm"),
        Entry("spectrum", f"{found}.spectrum:spectrum", "singular values and alignment by rank"),
        Entry("alignment", f"{found}.alignment:alignment", "attacks and the dominant vector"),
        Entry("linearity", f"{found}.linearity:linearity", "how far the features are linear"),
        Entry("activations", f"{found}.activations:activations", "units that two inputs share"),
        Entry("directions", f"{found}.directions:directions", "attacks, Eq. 12, the maximiser"),
        Entry(
            "robust-accuracy",
            "onr_validation.experiments.fast_training:robust_accuracy",
            "accuracy, clean and under multitargeted",
        ),
        Entry(
            "step-seconds",
            "onr_validation.experiments.fast_training:step_seconds",
            "the time of a training step, methods by turns",
        ),
        Entry(
            "table1",
            "onr_validation.lemmas.table1_measurement:table1_cells",
            "Table 1, brute force",
        ),
    ]
