"""Training with torch: the learner, many processes, weights as linear maps."""
