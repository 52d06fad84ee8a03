"""How backends are spoken with, unless a site says otherwise."""

from typing import get_args

from mailshed.config.back import Backend
from mailshed.relay.manner import PLAIN, Identity, Manner


def test_plain_smtp_under_our_own_name_is_the_default() -> None:
    assert Manner(is_lmtp=False, identity=Identity.NONE, is_chunking=False) == PLAIN


def test_identities_have_the_names_of_the_configuration() -> None:
    names = get_args(Backend.model_fields["identity"].annotation)
    assert [each.value for each in Identity] == list(names)
