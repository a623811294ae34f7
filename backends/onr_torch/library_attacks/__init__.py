"""Attacks of other libraries, held to the contract that ours keep."""
