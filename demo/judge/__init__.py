"""Judge of Tinyland: a small network, trained on renders alone, that recognizes subject, pattern and place."""

from .metrics import identity, layout_spread, prompt_accuracy, ranking_auc
from .network import Judge, Verdict

__all__ = ["Judge", "Verdict", "identity", "layout_spread", "prompt_accuracy", "ranking_auc"]
