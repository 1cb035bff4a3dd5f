"""What tells a joint checkpoint from an inpainting one: nine channels are all that the host sees of either."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ...kernels.jedi import CHANNELS, ORDERS

METADATA_KEY = "likeness_joint"
"""In a checkpoint's safetensors metadata: a JSON object with `channel_order` and `one_is_missing`."""

ATTACHMENT = "likeness.joint_format"
"""Under which a MODEL carries its JointFormat, where its checkpoint tells it."""

IN_CHANNELS = 2 * CHANNELS + 1


@dataclass(frozen=True)
class JointFormat:
    """How a joint model wants its input. channel_order: one of `kernels.jedi.ORDERS`; one_is_missing: its mask is 1
    where a picture is to be generated, as in the paper, and not where it is given."""

    channel_order: str
    one_is_missing: bool = True

    def __post_init__(self):
        if self.channel_order not in ORDERS:
            raise ValueError(f"expected channel_order {' or '.join(ORDERS)}, got {self.channel_order}")

    def metadata(self) -> dict[str, str]:
        """What to write into a checkpoint, beside its own metadata."""
        return {METADATA_KEY: json.dumps({"channel_order": self.channel_order, "one_is_missing": self.one_is_missing})}

    @staticmethod
    def of(metadata: dict[str, str] | None) -> JointFormat | None:
        """What a checkpoint's metadata says, None where it says nothing. Raises ValueError for what cannot be read."""
        text = (metadata or {}).get(METADATA_KEY)
        if text is None:
            return None
        try:
            told = json.loads(text)
            order, one_is_missing = told["channel_order"], told.get("one_is_missing", True)
            if one_is_missing is not True and one_is_missing is not False:
                raise TypeError("one_is_missing is no boolean")
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                "expected a JSON object with channel_order, and one_is_missing as true or false, under "
                f"{METADATA_KEY}, got {text}"
            ) from error
        return JointFormat(order, one_is_missing)
