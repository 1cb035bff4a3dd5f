import json
import os
from pathlib import Path

import pytest
from likeness.tests.browser import frontend
from likeness.tests.hosting import client, host, pack  # noqa: F401 - fixtures

STORE = Path(__file__).resolve().parents[2] / "workflows" / "api" / "store_reference.json"


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
    # The front end offers the files that are there when it opens, and forgets any other name.
    host.client.run(json.loads(STORE.read_text(encoding="utf-8")))
    return frontend.open_front_end(chromium, host.client.address)
