import os

import pytest
from likeness.tests.browser import frontend
from likeness.tests.hosting import client, host, pack  # noqa: F401 - fixtures


@pytest.fixture(scope="package")
def chromium():
    missing = None if frontend.CHROMIUM else "no Chromium is installed (CHROMIUM_PATH names one)"
    try:
        import playwright  # noqa: F401
    except ImportError:
        missing = "Python's playwright is not installed"
    if missing and os.environ.get("LIKENESS_BROWSER") == "required":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with frontend.browser() as running:
        yield running


@pytest.fixture(scope="package")
def page(chromium, host):  # noqa: F811
    """The front end; chromium is asked for first, so that no server starts where there is no browser."""
    return frontend.open_front_end(chromium, host.client.address)
