"""Training with torch: the learner, data parallelism, and weights as linear maps."""
