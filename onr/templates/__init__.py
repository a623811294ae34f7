"""The distributions that ``onr plugins new`` writes: text files, and the function that fills them.

``common`` has what all have; a folder for each kind has the module, the hook and the tests.
"""
