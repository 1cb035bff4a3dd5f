"""The input format of a joint checkpoint, in its metadata and on a MODEL."""

import pytest
from likeness.kernels.jedi import MASK_FIRST, NOISY_FIRST
from likeness.patching.jedi.build import AUTOMATIC, ONE_IS_GIVEN, ONE_IS_MISSING, format_of
from likeness.patching.jedi.format import ATTACHMENT, METADATA_KEY, JointFormat
from likeness.tests.patching.tiny_models import tiny_model


def test_a_format_survives_its_metadata():
    for stated in (JointFormat(MASK_FIRST), JointFormat(NOISY_FIRST), JointFormat(MASK_FIRST, False)):
        assert JointFormat.of(stated.metadata()) == stated
    assert JointFormat.of({METADATA_KEY: '{"channel_order": "mask, noisy, clean"}'}) == JointFormat(MASK_FIRST)
    assert JointFormat.of({"other": "1"}) is None and JointFormat.of(None) is None
    unclear = '{"channel_order": "mask, noisy, clean", "one_is_missing": "false"}'
    for broken in ("{", "[]", "{}", '{"channel_order": "clean first"}', unclear):
        with pytest.raises(ValueError, match="expected"):
            JointFormat.of({METADATA_KEY: broken})


def test_the_format_of_a_model():
    nine = tiny_model("sd1", channels=9)
    assert format_of(tiny_model("sd1"), AUTOMATIC, ONE_IS_MISSING, "test") is None
    assert format_of(nine, NOISY_FIRST, ONE_IS_MISSING, "test") == JointFormat(NOISY_FIRST)
    assert format_of(nine, NOISY_FIRST, ONE_IS_GIVEN, "test") == JointFormat(NOISY_FIRST, False)
    stated = nine.clone()
    stated.set_attachments(ATTACHMENT, JointFormat(MASK_FIRST))
    found = [format_of(stated.clone(), order, ONE_IS_MISSING, "test") for order in (AUTOMATIC, MASK_FIRST)]
    assert found == [JointFormat(MASK_FIRST)] * 2
