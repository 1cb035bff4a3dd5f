"""Research on real weights, run from a clone of the repository."""
