"""The sections of the configuration about clients: where they connect, and who they may be."""

from typing import Literal

from pydantic import Field

from mailshed.config.fields import EndpointField, Flag, Name
from mailshed.config.sections import Section


class Listener(Section):
    """Where clients connect."""

    name: Name = Field(description="Name in logs and metrics.")
    bind: EndpointField = Field(description="Address and port to listen on.")
    clients: Literal["mta", "user_agent", "device"] = Field(
        "mta",
        description="What connects here: a mail server (tries again after a 4xx), a mail program "
        "or a device (do not, so their mail is spooled instead).",
    )
    tls: Literal["none", "starttls", "implicit"] = Field(
        "none",
        description="Whether clients may begin TLS (RFC 3207), or do so before the greeting (port "
        "465, RFC 8314).",
    )
    tls_required: Flag = Field(
        False, description="Take no mail and no password without TLS; 530 instead."
    )
    auth: Literal["none", "offered", "required"] = Field(
        "none",
        description="Whether clients may authenticate, or have to before they send mail; only over "
        "TLS.",
    )
    proxy: Literal["none", "proxy_protocol", "xclient"] = Field(
        "none",
        description="How the proxies of trusted_proxies tell whose connection they pass on: the "
        "PROXY protocol's header (version 1 or 2), or the command XCLIENT.",
    )
