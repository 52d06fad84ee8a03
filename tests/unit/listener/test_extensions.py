"""What EHLO offers, and to whom."""

from tests.support.front import Front


async def test_every_extension_is_offered_on_a_line_of_its_own() -> None:
    async with Front(message_size_max=12_345_678) as front:
        peer = await front.peer(greeted=True)
        lines = (await peer.command("EHLO client.example.org", 250)).split(b"\r\n")
        assert [line[4:] for line in lines[1:-1]] == [b"PIPELINING", b"SIZE 12345678", b"8BITMIME"]
