"""The input format of a joint checkpoint. The host cannot tell it from an inpainting one: both have nine channels."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ...kernels.jedi import CHANNELS, ORDERS
from ..host.quoted import shortened

METADATA_KEY = "likeness_joint"
"""Key in a checkpoint's safetensors metadata: a JSON object with `channel_order` and `one_is_missing`."""

ATTACHMENT = "likeness.joint_format"
"""Key of the attachment in which a MODEL carries the JointFormat that its checkpoint states."""

IN_CHANNELS = 2 * CHANNELS + 1


@dataclass(frozen=True)
class JointFormat:
    """The input format of a joint model.

    channel_order: one of `kernels.jedi.ORDERS`. one_is_missing: the mask is 1 for a picture to generate, as in the
    paper, and 0 for a given one; False is the reverse. Raises ValueError for another order.
    """

    channel_order: str
    one_is_missing: bool = True

    def __post_init__(self):
        if self.channel_order not in ORDERS:
            raise ValueError(f"expected channel_order {' or '.join(ORDERS)}, got {shortened(str(self.channel_order))}")

    def metadata(self) -> dict[str, str]:
        """The entry to write into a checkpoint's metadata."""
        return {METADATA_KEY: json.dumps({"channel_order": self.channel_order, "one_is_missing": self.one_is_missing})}

    @staticmethod
    def of(metadata: dict[str, str] | None) -> JointFormat | None:
        """The format that a checkpoint's metadata states, or None. Raises ValueError for an unreadable entry."""
        text = (metadata or {}).get(METADATA_KEY)
        if text is None:
            return None
        try:
            stated = json.loads(text)
            order, one_is_missing = stated["channel_order"], stated.get("one_is_missing", True)
            if one_is_missing is not True and one_is_missing is not False:
                raise TypeError("one_is_missing is no boolean")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                "expected a JSON object with channel_order, and one_is_missing as true or false, under "
                f"{METADATA_KEY}, got '{shortened(text)}'"
            ) from error
        return JointFormat(order, one_is_missing)
