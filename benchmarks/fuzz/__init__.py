"""Random graphs over all nodes, in one long-lived ComfyUI; every fault is shrunk to a small graph and reported once."""

from .campaign import run

__all__ = ["run"]
