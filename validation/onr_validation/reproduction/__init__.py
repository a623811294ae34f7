"""The commands ``onr reproduce`` and ``onr report``: from data to figures, tables and verdicts."""
