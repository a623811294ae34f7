"""Regularisers as terms of a cost: their values and gradients, once for every backend."""
