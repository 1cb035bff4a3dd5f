"""Numbers of a saved file."""

import math

import pytest
from likeness.patching.host.facts import number


@pytest.mark.parametrize("value", [math.inf, math.nan, 10**400, -(10**400), True, "1", None], ids=lambda v: str(v)[:5])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"^a weight is no number from -inf to inf$"):
        number(value, "a weight")


def test_infinity_is_a_number_where_it_may_be():
    assert number(math.inf, "a level", 0.0, infinite=True) == math.inf and number(0, "a level", 0.0) == 0
    with pytest.raises(ValueError, match=r"^a level is no number"):
        number(10**400, "a level", 0.0, infinite=True)
