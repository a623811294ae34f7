"""The whole project on one page."""
