"""Random modules, inputs and verbs: every outcome is right, or one clear error.

``python -m fuzz --minutes 10 --seed 3`` draws combinations until the time is up; ``make fuzz`` does
the same from the root of the repository. ``test_fuzz.py`` is the small form of the suite.
"""
