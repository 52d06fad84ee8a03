"""What is held against a client: its errors, and commands that lead nowhere.

A session that makes `errors_max` of them ends with 421. A message that is taken wipes the slate.
What is not the client's error is no error: that we are busy, and that a list of recipients is too
long, since RFC 5321, 4.5.3.1.10 wants it cut there and sent in parts.
"""

from mailshed.mail.reply import Reply

# Commands that lead to no message, after which each more counts as an error; Postfix allows as many
# (smtpd_junk_command_limit). Else a NOOP every few minutes would hold a session for ever.
IDLE_COMMANDS_MAX = 100


class Conduct:
    """How one session has behaved since its last message."""

    __slots__ = ("_idle_commands", "errors")

    def __init__(self) -> None:
        self.errors = 0
        self._idle_commands = 0

    def forget(self) -> None:
        """Begin anew."""
        self.errors = self._idle_commands = 0

    def note_idle_command(self) -> None:
        """Count a command that leads to no message."""
        self._idle_commands += 1
        if self._idle_commands > IDLE_COMMANDS_MAX:
            self.errors += 1

    def note_refusal(
        self, verb: str, answer: Reply, *, is_overrun: bool, is_old_address: bool
    ) -> None:
        """Count a refused command, if that is the client's error.

        `is_overrun`: the transaction has far more refused recipients than any list has.
        `is_old_address`: of a recipient, that it may be one on the list of a trusted client.
        """
        if verb in {"dot", "auth"}:
            is_excused = answer.is_transient
        else:
            # A 4xx to a recipient means that nobody can say now whether there is such a mailbox,
            # or that the list is too long.
            is_in_vain = answer.is_transient or is_old_address
            is_excused = verb == "rcpt" and is_in_vain and not is_overrun
        if not is_excused:
            self.errors += 1
