"""The checksum of content: SHA-256, begun with the first piece.

From 2 KiB on hashlib gives up the interpreter's lock while it works. For what is short that is a
bad bargain: to digest 16 KiB takes 10 us, and to get the lock back from a busy event loop up to
5 ms (`changes`). So up to that size it is done in steps that are too short to give it up.
"""

import hashlib

DIGEST_HELD_OCTETS = 16 * 1024
# Below 2048, and whole blocks of SHA-256.
_STEP_OCTETS = 1984


def begin_digest(octets: bytes) -> "hashlib._Hash":
    """The digest of content that begins like this, and may go on."""
    if len(octets) > DIGEST_HELD_OCTETS:
        return hashlib.sha256(octets)
    digest, view = hashlib.sha256(), memoryview(octets)
    for begin in range(0, len(octets), _STEP_OCTETS):
        digest.update(view[begin : begin + _STEP_OCTETS])
    return digest
