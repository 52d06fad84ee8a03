"""The limit of open files is what the kernel allows, and never less than before."""

import resource
from collections.abc import Iterator

import pytest

from mailshed.limits import raise_file_limit

FILES = resource.RLIMIT_NOFILE


@pytest.fixture(autouse=True)
def low() -> Iterator[tuple[int, int]]:
    """A soft limit below the hard one, put back afterwards."""
    before = resource.getrlimit(FILES)
    lowered = (before[1] - 1, before[1])
    resource.setrlimit(FILES, lowered)
    yield lowered
    resource.setrlimit(FILES, before)


def test_the_soft_limit_becomes_the_hard_limit(low: tuple[int, int]) -> None:
    assert raise_file_limit() == low[1]
    assert resource.getrlimit(FILES) == (low[1], low[1])


def test_a_limit_that_is_high_already_is_left(
    low: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert raise_file_limit() == low[1]
    monkeypatch.delattr(resource, "setrlimit")
    try:
        assert raise_file_limit() == low[1]
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("error", [PermissionError("no"), ValueError("no")])
def test_a_kernel_that_refuses_leaves_the_limit_as_it_was(
    low: tuple[int, int], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", refuse)
        assert raise_file_limit() == low[0]
    assert resource.getrlimit(FILES) == low
