import os

import pytest
from likeness.tests.browser import frontend
from likeness.tests.hosting import client, host, pack  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def installed_browser():
    """Requested first, so that no server starts if there is no browser."""
    missing = None if frontend.CHROMIUM else "no Chromium is installed (CHROMIUM_PATH names one)"
    try:
        import playwright  # noqa: F401
    except ImportError:
        missing = "Python's playwright is not installed"
    if missing and os.environ.get("LIKENESS_BROWSER") == "required":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="module")
def stocked_host(installed_browser, host):  # noqa: F811
    """The server with stored files; the front end only offers files that exist when it opens."""
    frontend.stock(host.client)
    return host


@pytest.fixture(scope="module")
def chromium(stocked_host):
    """A browser per module, opened after the client has run, since both keep an event loop in this thread."""
    with frontend.browser() as running:
        yield running


@pytest.fixture(scope="module")
def page(chromium, stocked_host):
    return frontend.open_front_end(chromium, stocked_host.client.address)
