"""A secret is read from a file that is one, and from no other."""

import os
from pathlib import Path

import pytest

from mailshed.errors import SecretFileError
from mailshed.secretfile import read_login, read_secret


def secret(folder: Path, mode: int = 0o600, content: bytes = b"s3cret\n") -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440, 0o700])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    """0440 is what systemd's LoadCredential= makes for a user that is not root."""
    assert read_secret(secret(tmp_path, mode), 100) == b"s3cret\n"


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o602, 0o620, 0o610, 0o601, 0o666])
def test_a_file_that_others_could_read_or_change_is_not(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SecretFileError, match=f"mode {mode:04o}.*chmod it to 0600") as caught:
        read_secret(secret(tmp_path, mode), 100)
    assert "s3cret" not in str(caught.value)


def test_a_file_of_somebody_else_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = secret(tmp_path)
    real = os.fstat

    def of_another(descriptor: int) -> os.stat_result:
        fields = list(real(descriptor))
        fields[4] = 4242
        return os.stat_result(fields)

    monkeypatch.setattr("mailshed.secretfile.os.fstat", of_another)
    monkeypatch.setattr("mailshed.secretfile.os.geteuid", lambda: 990)
    with pytest.raises(SecretFileError, match=r"belongs to user 4242.*chown"):
        read_secret(path, 100)
    monkeypatch.setattr("mailshed.secretfile.os.geteuid", lambda: 0)
    assert read_secret(path, 100) == b"s3cret\n", "root looks on behalf of the service"


def test_what_is_no_file_is_not(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="No such file"):
        read_secret(tmp_path / "missing", 100)
    with pytest.raises(SecretFileError, match="Is a directory"):
        read_secret(tmp_path, 100)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(SecretFileError, match="not a file"):
        read_secret(pipe, 100)


def test_a_long_file_is_not(tmp_path: Path) -> None:
    path = secret(tmp_path, content=b"x" * 101)
    with pytest.raises(SecretFileError, match="longer than 100 octets"):
        read_secret(path, 100)
    assert len(read_secret(path, 101)) == 101


def test_a_login_is_a_name_and_a_password(tmp_path: Path) -> None:
    assert read_login(secret(tmp_path, content=b"relay\ns3cret\n")) == ("relay", "s3cret")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"relay:s3cret\n", "two lines.* it has 1"),
        (b"\ns3cret\n", "an empty line"),
        (b"relay\ns3\0cret\n", "a NUL"),
        (b"relay\ns3cret\xff\n", "not UTF-8"),
        (b"s3cret\n" * 1000, "longer than"),
    ],
)
def test_what_is_no_login_is_not_told(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(SecretFileError, match=fault) as caught:
        read_login(secret(tmp_path, content=content))
    assert "cret" not in str(caught.value).replace(str(tmp_path), "").replace("/secret", "")
