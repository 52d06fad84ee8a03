"""The ways in which a secret may stand in octets that somebody can look at."""

import base64


def forms(secret: bytes) -> list[bytes]:
    """As it is, in hexadecimal, and in base64, wherever in something longer it stands."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for before in range(3):  # what stands before it shifts its base64 by so many octets
        encoded = base64.b64encode(b"\0" * before + secret)
        # The first and the last groups are shared with the neighbours.
        inner = encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4]
        assert len(inner) >= 8, "a secret of this length could be found by chance"
        found.append(inner)
    return found


def found_in(octets: bytes, secret: bytes) -> list[bytes]:
    """The forms of a secret that stand in `octets`."""
    return [form for form in forms(secret) if form in octets]
