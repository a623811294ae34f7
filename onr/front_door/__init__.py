"""The functions of ``import onr``: one verb each, for the models of every backend.

They turn what a user has, a model and text, into what the mathematics takes, a network and norms,
and hand it on. The backend is found by the type of ``x``.
"""
