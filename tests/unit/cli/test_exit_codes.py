import os

from mailshed.cli.exit_codes import ExitCode, VerbFailed


def test_codes_are_those_of_sysexits() -> None:
    assert ExitCode.USAGE == os.EX_USAGE
    assert ExitCode.UNAVAILABLE == os.EX_UNAVAILABLE
    assert ExitCode.IO_ERROR == os.EX_IOERR
    assert ExitCode.TRY_AGAIN == os.EX_TEMPFAIL
    assert ExitCode.NO_PERMISSION == os.EX_NOPERM
    assert ExitCode.CONFIG == os.EX_CONFIG


def test_a_failed_verb_says_why_and_how_it_exits() -> None:
    error = VerbFailed("because", ExitCode.TRY_AGAIN)

    assert (str(error), error.code) == ("because", 75)
