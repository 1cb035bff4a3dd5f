"""The moves of reference pictures' keys, by hand."""

import pytest
from likeness.patching.features.positions import BESIDE, INDEX, SAME, shifts
from likeness.patching.host.family import Shift
from likeness.patching.host.reference_places import Taken

SIZE = (4, 6)
REFERENCES = ((4, 6), (3, 5), (7, 8))


@pytest.mark.parametrize("centered", [False, True])
def test_the_same_place(centered):
    assert shifts(SAME, SIZE, REFERENCES, centered=centered, taken=Taken(2, 9)) == (Shift(),) * 3


@pytest.mark.parametrize("centered", [False, True])
def test_further_indices(centered):
    assert shifts(INDEX, SIZE, REFERENCES, centered=centered) == (Shift(1.0), Shift(2.0), Shift(3.0))
    taken = shifts(INDEX, SIZE, REFERENCES, centered=centered, taken=Taken(2, 9))
    assert taken == (Shift(3.0), Shift(4.0), Shift(5.0))


def test_columns_to_the_right():
    assert shifts(BESIDE, SIZE, REFERENCES) == (Shift(right=6.0), Shift(right=12.0), Shift(right=17.0))


def test_columns_to_the_right_where_places_count_from_the_center():
    """A picture of width w has the columns -(w // 2) to w - w // 2 - 1, as Qwen-Image counts them."""
    found = shifts(BESIDE, SIZE, REFERENCES, centered=True)
    assert found == (Shift(right=6.0), Shift(right=11.0), Shift(right=18.0))
    columns = list(range(-3, 3))
    for shift, (_, width) in zip(found, REFERENCES, strict=True):
        columns += [int(shift.right) - width // 2 + i for i in range(width)]
    assert columns == list(range(-3, 22))


def test_tall_pictures_stand_right_of_the_hosts_diagonal():
    low, tall = REFERENCES[:2], REFERENCES[2:]
    assert shifts(BESIDE, SIZE, low, taken=Taken(2, 9)) == shifts(BESIDE, SIZE, low)
    assert shifts(BESIDE, SIZE, tall, taken=Taken(2, 9)) == (Shift(right=15.0),)
