"""``onr reproduce`` and ``onr report``: figures and tables from data to picture and verdict."""
