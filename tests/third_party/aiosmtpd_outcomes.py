"""How `aiosmtpd_adapter` hands what became of the tests to `aiosmtpd_suite`."""

VARIABLE = "MAILSHED_TEST_OUTCOMES"
"""Of the environment: the file that the outcomes go to."""
