import os

import pytest
from likeness.tests.browser import frontend
from likeness.tests.hosting import client, host, pack  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def installed_browser():
    """Asked for before everything else, so that no server starts where there is no browser."""
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
    """The server with stored files: the front end offers the files that are there when it opens, and no other name."""
    frontend.stock(host.client)
    return host


@pytest.fixture(scope="module")
def chromium(stocked_host):
    """Opened after the client has run, closed with the module: the driver keeps an event loop in this thread, the
    client starts its own."""
    with frontend.browser() as running:
        yield running


@pytest.fixture(scope="module")
def page(chromium, stocked_host):
    return frontend.open_front_end(chromium, stocked_host.client.address)
