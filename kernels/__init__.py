"""The mathematics of the pack: torch only, no host."""
