"""The learner in several processes: each has the model (or its share of it) and computes a share of every batch."""
