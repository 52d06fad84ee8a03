"""Nobody becomes another by what he says: PROXY headers and XCLIENT from peers that are no proxy.

The headers are good ones, broken ones and mixtures of both, wherever a client may put them: first,
after the greeting, before and after EHLO. Who a session takes its client for is compared with the
other end of the connection, each time.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from mailshed.config.policy import ListenerPolicy, ProxyMode
from mailshed.mail.proxy_protocol import SIGNATURE, Endpoint, build_v1, build_v2, build_v2_local
from tests.support.front import Front, Peer, ScriptedHandler
from tests.support.intensity import tried
from tests.unit.mail.test_proxy_protocol import HEADERS, MALFORMED

IMPOSTOR, PROXY = "127.0.0.2", "127.0.0.1"
VICTIM = Endpoint(address=ip_address("192.0.2.7"), port=40000)
HERE = Endpoint(address=ip_address("198.51.100.25"), port=25)
GOOD = [build_v1(VICTIM, HERE), build_v2(VICTIM, HERE), build_v2_local()]
GOOD += [header for header, _ in HEADERS.values()]
SAID = [
    *(
        b"XCLIENT ADDR=192.0.2.7\r\n",
        b"XCLIENT ADDR=192.0.2.7 LOGIN=root\r\n",
        b"xclient LOGIN=x\r\n",
    ),
    *(b"XFORWARD ADDR=192.0.2.7\r\n", b"EHLO x\r\n", b"HELO [192.0.2.7]\r\n", b"RSET\r\n"),
    *(b"MAIL FROM:<a@b.example>\r\n", b"NOOP XCLIENT LOGIN=x\r\n", b"\r\n", b"PROXY\r\n"),
]
HEADER = st.one_of(
    st.sampled_from(GOOD),
    st.sampled_from(list(MALFORMED.values())).filter(lambda header: len(header) < 4096),
    st.binary(max_size=40).map(lambda rest: SIGNATURE + rest),
    st.binary(max_size=40).map(lambda rest: b"PROXY TCP4 192.0.2.7 " + rest + b"\r\n"),
)
SENT = st.lists(st.one_of(HEADER, st.sampled_from(SAID)), min_size=1, max_size=6)


async def _say(front: Front, pieces: list[bytes], *, waits: bool) -> None:
    """Say it all, in one write or piece by piece, and leave."""
    peer: Peer = await front.peer(greeted=False, host=IMPOSTOR)
    with suppress(ConnectionError):
        for piece in pieces if waits else [b"".join(pieces)]:
            await peer.send(piece, cuts=(1,))
        peer.half_close()
    with suppress(ConnectionError):
        await peer.rest()
    peer.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("proxy", list(ProxyMode))
def test_whatever_an_impostor_says_he_is_who_he_is(
    proxy: ProxyMode, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    handler = ScriptedHandler(clinical_hosts=(), proxy_hosts=(PROXY,))
    front = Front(handler, errors_max=1000)
    front.policy = ListenerPolicy(name="smtp", proxy=proxy)

    with asyncio.Runner(loop_factory=new_loop) as runner:

        @tried(40)
        @given(SENT, st.booleans())
        def he_stays(pieces: list[bytes], waits: bool) -> None:
            runner.run(_say(front, pieces, waits=waits))
            if proxy is ProxyMode.PROXY_PROTOCOL:
                assert handler.sessions == [], "he was let in"
                assert handler.refusals[-1] == "no_proxy"
            assert handler.introductions == []
            for session in handler.sessions:
                assert session.peer is not None
                assert str(session.peer.address) == IMPOSTOR
                assert (session.client, session.client.user) == (session.arrived, "")
            handler.sessions.clear()

        runner.run(front.__aenter__())
        try:
            he_stays()
        finally:
            runner.run(front.__aexit__())
