"""Attacks of other libraries, held to the same contract as our own attacks."""
