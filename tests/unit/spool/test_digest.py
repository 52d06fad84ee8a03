"""The digest is SHA-256, however it is made."""

import hashlib

import pytest

from mailshed.spool.digest import DIGEST_HELD_OCTETS, begin_digest


@pytest.mark.parametrize(
    "octets",
    [0, 1, 1983, 1984, 1985, 10_000, DIGEST_HELD_OCTETS, DIGEST_HELD_OCTETS + 1, 100_000],
)
def test_is_sha_256_and_can_be_continued(octets: int) -> None:
    content = bytes(number % 251 for number in range(octets))
    digest = begin_digest(content)
    assert digest.digest() == hashlib.sha256(content).digest()
    digest.update(b"more")
    assert digest.digest() == hashlib.sha256(content + b"more").digest()
