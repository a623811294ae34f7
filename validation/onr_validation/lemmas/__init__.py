"""The lemmas and Table 1, checked."""
