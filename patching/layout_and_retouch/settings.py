"""The settings of MultiSourceAttnSwap, with the names of their options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..features.lending import BANKED
from ..features.positions import BESIDE
from ..features.references import Reference
from ..features.trajectory import Trajectory
from ..host.window import ModelSampling, Window, steps_before

NODE = "Reference Retouch"
FORK, QKV_BOTH, QK_BOTH, QK_SELF, NONE = "fork", "qkv_both", "qk_both", "qk_self", "none"
"""Early swaps: the layout's own latents; Q, K, V or Q, K of all attention; Q, K of self-attention; no swap."""

REPLACE, APPEND = "replace", "append"
"""The references' keys and values in place of the target's own, or after them."""

STEP, PERCENT = "step", "percent"
"""Units of the widgets that hold lambda_2 and lambda_3: steps of the run, or fractions of sampling."""

Layout = Trajectory | Reference


@dataclass(frozen=True)
class RetouchSettings:
    """The widgets of the node.

    early_swap: how the target follows the layout before step lambda_2. lambda_3: the first step whose background is
    the layout's. lambdas_by: STEP, or PERCENT where lambda_2_percent and lambda_3_percent replace both; `counted` then
    gives the steps. blocks: where references and mask act, in the language of `blocks.parse`. attention: REPLACE or
    APPEND. mode: one of `lending`'s. strength: of the whole change, 1 is the paper's. bank_limit, positions,
    reference_every: see `Lending`.
    """

    early_swap: str = FORK
    lambda_2: int = 10
    lambda_3: int = 10
    blocks: str = "paper"
    attention: str = REPLACE
    mode: str = BANKED
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    bank_limit: float = 0.0
    lambdas_by: str = STEP
    lambda_2_percent: float = 0.2
    lambda_3_percent: float = 0.2
    positions: str = BESIDE
    reference_every: int = 1

    @property
    def window(self) -> Window:
        return Window(self.start_percent, self.end_percent)

    @property
    def by_percent(self) -> bool:
        return self.lambdas_by == PERCENT

    @property
    def stated(self) -> tuple[float, float]:
        """lambda_2 and lambda_3 in the unit of their widgets."""
        return (self.lambda_2_percent, self.lambda_3_percent) if self.by_percent else (self.lambda_2, self.lambda_3)

    @property
    def names(self) -> tuple[str, str]:
        """The widgets that hold lambda_2 and lambda_3."""
        return ("lambda_2_percent", "lambda_3_percent") if self.by_percent else ("lambda_2", "lambda_3")

    def counted(self, levels: Sequence[float], model_sampling: ModelSampling) -> RetouchSettings:
        """The settings with the steps of a run that fractions of sampling stand for.

        levels: falling sigmas on which steps are counted.
        """
        if not self.by_percent:
            return self
        lambda_2, lambda_3 = (steps_before(percent, levels, model_sampling) for percent in self.stated)
        return replace(self, lambda_2=lambda_2, lambda_3=lambda_3)

    @property
    def append(self) -> bool:
        return self.attention == APPEND

    @property
    def follows_live(self) -> bool:
        """True where the early steps run the layout's rows, rather than take its latents."""
        return self.early_swap in (QKV_BOTH, QK_BOTH, QK_SELF) and self.lambda_2 > 0


def prompts_of(layout: Layout, negative: list | None) -> tuple[list, list]:
    """The CONDITIONING of a layout's conditional and unconditional rows.

    negative: for a picture, which has no negative prompt of its own; without one its prompt serves both sides.
    """
    if isinstance(layout, Trajectory):
        return layout.positive, layout.negative
    return layout.conditioning, layout.conditioning if negative is None else negative
