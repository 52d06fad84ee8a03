"""What libraries say to the standard `logging` comes out as lines like all others."""

import logging
import re
import warnings
from collections.abc import Iterator

import pytest

from mailshed.maillog import configure_logging
from tests.support.log_lines import Log


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root, names = logging.getLogger(), ("mail.log", "asyncio", "aiohttp")
    handlers, level = root.handlers[:], root.level
    levels = [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, each in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(each)
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("root_logger")
def test_libraries_speak_through_the_same_lines() -> None:
    log = Log()
    configure_logging(log.maillog)
    logging.getLogger("mail.log").info("every command of every session")
    logging.getLogger("asyncio").debug("noise")
    logging.getLogger("aiohttp.server").error("Error: %s\n", "handling", exc_info=ValueError("x"))
    logging.getLogger("anything").warning("50% of %s")
    logging.getLogger("broken").warning("%d", "not a number")
    assert [re.sub(r' traceback=".*"', "", line).split(" ", 1)[1] for line in log.lines] == [
        r'error - event=library logger=aiohttp.server message="Error: handling\n"',
        'warning - event=library logger=anything message="50% of %s"',
        "warning - event=library logger=broken message=%d",
    ]


@pytest.mark.usefixtures("root_logger")
def test_python_warnings_are_lines_too() -> None:
    log = Log()
    configure_logging(log.maillog)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("careful", RuntimeWarning, stacklevel=1)
    assert len(log.lines) == 1
    assert "event=library logger=py.warnings" in log.lines[0]
    assert "RuntimeWarning: careful" in log.lines[0]
