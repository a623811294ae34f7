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
            "demo",
            "onr_validation.demo_command:demo",
            "Check the theorem, train three methods, write a page.",
        ),
    ]
