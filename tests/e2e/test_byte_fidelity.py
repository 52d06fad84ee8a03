"""Story: mail that goes through mailshed arrives as if it had gone straight to the mail server.

500 mails of a public corpus, with everything that real mail has (8-bit octets, lines of thousands
of octets, broken headers, dots at line starts), are sent to Postfix directly and through mailshed.
What Postfix stores is the same but for one `Received` field. The exact wire form is compared with
a sink, for mail that passes straight through and for mail that waits in the spool first.

Mail that nobody can pass on safely, because servers disagree where its lines end, is refused by
name and with the reason, not altered.
"""

from pathlib import Path

from tests.support.clients import Item, send_lock_step, send_pipelined
from tests.support.corpus import CorpusMail, dot_stuffed, select
from tests.support.daemon import HOSTNAME, Daemon
from tests.support.flapper import Flapper
from tests.support.postfix import Postfix
from tests.support.processes import wait_until
from tests.support.smtp_sink import SinkMessage, SmtpSink

COUNT = 500

BARE_CR = "550 5.5.2"

# The corpus's mails with a bare CR; RFC 5321, 2.3.8 forbids it, and passing it on is smuggling.
REFUSED = frozenset(
    {
        "spam-2/00083.1aead789d4b4c7022c51bc632e4f2445",
        "spam-2/00164.272880ebd1f1f93cf0cd9800842a24bd",
        "spam-2/00179.ef2f7cf60806a96b59f4477b025580ee",
        "spam-2/00238.1bc0944812aa14bc789ff565710dc0b5",
        "spam-2/00276.a8792b1d4591c269b9234f3a39f846d8",
        "spam-2/00378.958f8c0f9d486c1e18f835ab65664b4d",
        "spam-2/00541.b3145925dccfa163547afa1299e61807",
        "spam-2/00619.8b327d9ed6741fb05ac4a180a5f776c6",
    }
)

NUL_MAIL = CorpusMail(
    name="made/nul",
    wire=b"From: <a@personal.example>\r\nSubject: a NUL\r\n\r\nbefore \0 after\r\n",
)


def _items(mails: list[CorpusMail]) -> list[Item]:
    return [
        Item(
            sender="someone@personal.example",
            recipient=f"mail-{index:03d}@hospital.example",
            wire=mail.wire,
        )
        for index, mail in enumerate(mails)
    ]


def _stored(server: Postfix, count: int) -> dict[str, bytes]:
    server.wait_delivered(count)
    delivered = server.delivered()
    assert len(delivered) == count
    return {item.recipient: item.original for item in delivered}


def test_a_corpus_of_real_mail_arrives_as_if_it_had_gone_straight_to_postfix(
    tmp_path: Path,
) -> None:
    mails = [*select(COUNT), NUL_MAIL]
    items = _items(mails)
    refusable = {mail.name for mail in mails if mail.has_bare_cr or mail.has_nul}
    good = [item for item, mail in zip(items, mails, strict=True) if mail.name not in refusable]

    with Postfix() as direct:
        assert all(reply.startswith("250") for reply in send_lock_step(direct.port, good))
        expected = _stored(direct, len(good))

    with (
        Postfix() as behind,
        Daemon(folder=tmp_path / "mailshed", backend_port=behind.port) as daemon,
    ):
        half = len(items) // 2
        replies = [
            *send_lock_step(daemon.port, items[:half]),
            *send_pipelined(daemon.port, items[half:]),
        ]
        refused = {
            mail.name: reply
            for mail, reply in zip(mails, replies, strict=True)
            if not reply.startswith("250")
        }
        assert set(refused) == REFUSED | {NUL_MAIL.name}
        assert all(reply.startswith(BARE_CR) for reply in refused.values()), refused
        through = _stored(behind, len(good))

    differing = [name for name, content in expected.items() if through[name] != content]
    assert not differing, f"{len(differing)} mails were altered: {differing[:5]}"


def test_mail_data_reaches_the_backend_octet_for_octet_below_one_received_line(
    tmp_path: Path,
) -> None:
    mails = _unrefused()
    with (
        SmtpSink() as sink,
        Daemon(folder=tmp_path / "mailshed", backend_port=sink.port) as daemon,
    ):
        replies = send_pipelined(daemon.port, _items(mails))
        assert all(reply.startswith("250") for reply in replies)
        messages = sink.wait_for(len(mails))
    _check_wire(mails, messages)


def test_mail_data_that_waited_in_the_spool_reaches_the_backend_octet_for_octet(
    tmp_path: Path,
) -> None:
    mails = _unrefused()
    with (
        SmtpSink() as sink,
        Flapper(sink.port) as flapper,
        Daemon(folder=tmp_path / "mailshed", backend_port=flapper.port) as daemon,
    ):
        flapper.down()
        replies = send_pipelined(daemon.port, _items(mails))
        assert all(reply.startswith("250") for reply in replies)
        wait_until(
            lambda: daemon.metrics().total("queue_messages") == len(mails), "all are in the spool"
        )
        daemon.kill()  # what is delivered has been read back from the disk
        daemon.start()
        flapper.up()
        daemon.wait_spool_empty()
        messages = sink.wait_for(len(mails))
    _check_wire(mails, messages)


def _unrefused() -> list[CorpusMail]:
    return [mail for mail in select(COUNT) if not mail.has_bare_cr]


def _check_wire(mails: list[CorpusMail], messages: list[SinkMessage]) -> None:
    """Each mail came once, as it was sent, with one field of ours on top."""
    assert len(messages) == len(mails)
    by_recipient = {message.rcpt[0].decode(): message for message in messages}
    for index, mail in enumerate(mails):
        message = by_recipient[f"RCPT TO:<mail-{index:03d}@hospital.example>"]
        trace, received = _split_received(message.data)
        assert received == dot_stuffed(mail.wire), f"{mail.name} was altered"
        assert f"by {HOSTNAME} (mailshed) with ESMTP id ".encode() in trace
        assert (b"BODY=8BITMIME" in message.mail) == mail.is_8bit


def _split_received(data: bytes) -> tuple[bytes, bytes]:
    """Our trace field on top, and the rest."""
    assert data.startswith(b"Received: ")
    end = data.index(b"\r\n") + 2
    while data[end : end + 1] in {b" ", b"\t"}:
        end = data.index(b"\r\n", end) + 2
    return data[:end], data[end:]
