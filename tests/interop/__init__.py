"""mailshed between real clients and real mail servers: `make test-interop`.

Ten clients send four kinds of mail in three ways, and five mail servers take it in four; each
message passes straight through, and waits in the spool. Every cell of these tables is a message
that arrived exactly once, octet for octet, in the way it was meant to; or a refusal that is listed
in `refusals`, with who refuses and why that is right. A refusal that does not happen is a failure
too. docs/interoperability.md is written by the run.

`contents` has the mail, `clients` and `backends` the programs of others, `capsule` keeps those
apart that cannot be installed together, `site` is mailshed between them, `front` and `behind` fill
the two tables, and `report` writes the page.
"""
