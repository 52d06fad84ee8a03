"""Real mail through both engines: the mail server gets the same, and what the client sent."""

from pathlib import Path

from tests.protocol.differential.compare import held_with_both
from tests.protocol.differential.differences import REPLIES
from tests.protocol.differential.engines import Script, Step, Text
from tests.protocol.differential.sessions import DATA, EHLO, LIMIT, QUIT, RCPT
from tests.support.corpus import dot_stuffed, select

COUNT = 80
"""The oddities come first: bare CR and long lines."""


async def test_real_mail_passes_as_it_is(tmp_path: Path) -> None:
    """But for lines over 1001 octets, which the library refuses, and bare CR, which we do."""
    mails = [mail for mail in select(COUNT) if len(mail.wire) < LIMIT]
    steps: list[Step] = [EHLO]
    for number, mail in enumerate(mails):
        body = b" BODY=8BITMIME" if mail.is_8bit else b""
        steps += [b"MAIL FROM:<mail%d@example.org>%s\r\n" % (number, body), RCPT, DATA]
        steps.append(Text(dot_stuffed(mail.wire) + b".\r\n"))
    ours, stock = await held_with_both(Script(steps=[*steps, QUIT]), tmp_path)
    expected = []
    too_long = REPLIES["a long line of mail data"]
    of_text = [
        pair for pair in zip(ours.exchanges, stock.exchanges, strict=True) if pair[0].said is None
    ]
    for mail, (one, other) in zip(mails, of_text, strict=True):
        if mail.has_bare_cr or mail.has_nul:
            assert one.reply.startswith(b"550 5.5.2")
            assert other.reply == one.reply or (mail.has_long_line and other.reply[:3] == b"500")
            continue
        assert one.reply.startswith(b"250 ")
        assert other.reply == one.reply or (mail.has_long_line and too_long.fits(one, other))
        expected.append(mail)
    sent = {each[0]: each[2].partition(b"DATE\r\n")[2] for each in ours.received}
    assert list(sent.values()) == [dot_stuffed(mail.wire) for mail in expected]
    by_library = {each[0]: each[2].partition(b"DATE\r\n")[2] for each in stock.received}
    assert by_library.items() <= sent.items()
    assert len(by_library) >= COUNT // 2
