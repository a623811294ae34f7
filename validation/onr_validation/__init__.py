"""The paper's claims, checked."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_commands() -> list[Entry]:
    """Check the theorem; show the whole project at work."""
    return [
        Entry(
            "verify-theorem",
            "onr_validation.verify_command:verify_theorem",
            "Check Theorem 1 on random ReLU networks.",
        ),
        Entry(
            "verify-lemmas",
            "onr_validation.lemmas_command:verify_lemmas",
            "Check Lemmas 1 to 3, Eqs. 28 and 29, section 7.1.",
        ),
        Entry(
            "verify-table1",
            "onr_validation.table_command:verify_table1",
            "Check every cell of Table 1 against brute force.",
        ),
        Entry(
            "demo",
            "onr_validation.demo_command:demo",
            "Check the theorem, train three methods, write a page.",
        ),
    ]
