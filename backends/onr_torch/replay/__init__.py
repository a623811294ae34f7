"""``J v`` at the cost of a forward pass: the pass is recorded and replayed on a direction."""
