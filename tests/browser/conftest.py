import os

import pytest
from likeness.tests.browser import frontend


@pytest.fixture(scope="session")
def installed_browser():
    """Requested first, so that no server starts if there is no browser."""
    missing = None if frontend.CHROMIUM else f"no Chromium is installed: `{frontend.INSTALL}` lets them run"
    try:
        import playwright  # noqa: F401
    except ImportError:
        missing = "Python's playwright is not installed"
    if missing and os.environ.get("LIKENESS_BROWSER") == "required":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def stocked_host(installed_browser, host):
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
    """The front end, which draws nothing: drawing takes longer than the workflows themselves."""
    page = frontend.open_front_end(chromium, stocked_host.client.address)
    page.evaluate("() => { app.canvas.pause_rendering = true; }")
    return page
