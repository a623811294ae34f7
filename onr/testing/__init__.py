"""The laws of each kind of part, for the tests of your own ones.

A function ``check_KIND`` checks one object on random inputs and raises an ``AssertionError`` that
says which law is broken, and at which input. The project's own parts are tested with these
functions, and ``onr plugins check`` runs them on anything that is installed::

    from onr.testing import check_norm

    def test_my_norm():
        check_norm(MyNorm(), (3, 4, 4))
"""

from onr.testing.attacks import check_attack
from onr.testing.backends import check_backend
from onr.testing.checks import check_check
from onr.testing.datasets import check_dataset
from onr.testing.losses import check_loss
from onr.testing.methods import check_method
from onr.testing.models import check_model
from onr.testing.networks import adjoint_error, check_network, small_network
from onr.testing.norms import check_norm

__all__ = [
    "adjoint_error",
    "check_attack",
    "check_backend",
    "check_check",
    "check_dataset",
    "check_loss",
    "check_method",
    "check_model",
    "check_network",
    "check_norm",
    "small_network",
]
