"""The judge of Tinyland: a small network, trained on renders alone, that says what a picture shows and whom."""

from .metrics import identity, layout_spread, prompt_accuracy, ranking_auc
from .network import Judge, Verdict

__all__ = ["Judge", "Verdict", "identity", "layout_spread", "prompt_accuracy", "ranking_auc"]
