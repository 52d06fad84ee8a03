"""ENHANCEDSTATUSCODES is offered, so every reply of ours has one that fits (RFC 2034, 3 and 4).

But for the greeting, and what HELO and EHLO are answered; and 3xx, which have none. What a backend
says passes as it came, with or without: it is not ours.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailshed
from mailshed.mail import parameters, reply
from mailshed.mail.reply import Reply
from tests.protocol.test_dialogs import FOLDER
from tests.support import dialog
from tests.support.front import ScriptedHandler

LINE = re.compile(rb"([245])[0-9]{2}[ -]\1\.[0-9]{1,3}\.[0-9]{1,3} ")


def has_codes(made: Reply) -> bool:
    """On each of its lines, of the class of the reply."""
    return all(LINE.match(line) for line in made.wire.splitlines())


def named() -> Iterator[tuple[str, Reply]]:
    for module in (reply, parameters):
        for name, value in vars(module).items():
            if isinstance(value, Reply):
                yield f"{module.__name__}.{name}", value


@pytest.mark.parametrize(("name", "made"), list(named()))
def test_every_reply_with_a_name_has_one(name: str, made: Reply) -> None:
    assert has_codes(made) or 300 <= made.code < 400, name


def made_in(path: Path) -> Iterator[tuple[str, int, str]]:
    """Where `make(code, text)` is called, with what is known of its arguments."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        called = ast.unparse(node.func)
        code = node.args[0]
        if called in {"make", "reply.make"} and isinstance(code, ast.Constant):
            assert isinstance(code.value, int)
            text = ast.unparse(node.args[1]).lstrip("f").strip("\"'")
            yield f"{path}:{node.lineno}", code.value, text


def test_every_reply_that_is_made_has_one() -> None:
    """Also where a text is put together, and in modules that no dialog reaches."""
    root = Path(mailshed.__file__).parent
    found = [each for path in sorted(root.rglob("*.py")) for each in made_in(path)]
    assert len(found) > 40
    without = [
        f"{where}: {code} {text}"
        for where, code, text in found
        if not re.match(rf"{code // 100}\.[0-9]+\.[0-9]+ ", text)
    ]
    greetings = [
        each
        for each in without
        if re.search(r": (220 \{hostname\} ESMTP|250 (\w+\.)?hostname$)", each)
    ]
    intermediate = [each for each in without if re.search(r": 3[0-9]{2} ", each)]
    assert sorted(without) == sorted({*greetings, *intermediate})
    assert len(greetings) <= 4


async def test_every_reply_in_the_dialogs_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, Reply]] = []
    remember = ScriptedHandler.replied

    def replied(self: ScriptedHandler, session: object, verb: str, sent: Reply) -> None:
        said.append((verb, sent))
        remember(self, session, verb, sent)  # type: ignore[arg-type]

    monkeypatch.setattr(ScriptedHandler, "replied", replied)
    for script in dialog.read(FOLDER):
        if "@answer" not in (FOLDER / f"{script.name}.dialog").read_text():
            await dialog.run(script)
    assert len(said) > 200
    for verb, sent in said:
        is_greeting = verb in {"connect", "helo", "ehlo"} and sent.is_success
        assert is_greeting or 300 <= sent.code < 400 or has_codes(sent), (verb, sent)
