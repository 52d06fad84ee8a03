import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.mail.privacy import is_patient, mask, mask_text

NUMBER = "190011234567890"


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        (f"{NUMBER}@patient.mssante.fr", "***@patient.mssante.fr"),
        (f"{NUMBER}@Patient.MSSante.FR", "***@Patient.MSSante.FR"),
        (f"<{NUMBER}@patient.mssante.fr>", "<***@patient.mssante.fr>"),
        (f'"a b {NUMBER}"@patient.mssante.fr', "***@patient.mssante.fr"),
        (f"bounce+{NUMBER}=patient.mssante.fr@list.example", "***@list.example"),
        (f"{NUMBER}%patient.mssante.fr", "***"),
    ],
)
def test_hides_who_a_patient_is(address: str, masked: str) -> None:
    assert mask(address) == masked


@pytest.mark.parametrize(
    "address",
    [
        "",
        "<>",
        "doctor@ch-xyz.mssante.fr",
        "a@notpatient.mssante.fr",
        "Postmaster",
        "a@example.org",
    ],
)
def test_leaves_everyone_else_as_they_are(address: str) -> None:
    assert not is_patient(address)
    assert mask(address) == address


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            f"550 5.1.1 <{NUMBER}@patient.mssante.fr>: unknown",
            "550 5.1.1 <***@patient.mssante.fr>: unknown",
        ),
        (f'no "x {NUMBER}"@patient.mssante.fr here', "no ***@patient.mssante.fr here"),
        (f"orcpt=rfc822;{NUMBER}@patient.mssante.fr ok", "orcpt=rfc822;***@patient.mssante.fr ok"),
        ("250 2.0.0 Ok", "250 2.0.0 Ok"),
    ],
)
def test_hides_patients_in_running_text(text: str, masked: str) -> None:
    assert mask_text(text) == masked


def test_hides_the_number_alone_where_it_is_known() -> None:
    address = f"{NUMBER}@patient.mssante.fr"

    assert mask_text(f"550 user {NUMBER} unknown", address) == "550 user *** unknown"
    assert mask_text("550 user alice unknown", "alice@example.org") == "550 user alice unknown"


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_masking_twice_is_masking_once(before: str, after: str) -> None:
    address = f"{before}{NUMBER}@patient.mssante.fr{after}"

    assert mask(mask(address)) == mask(address)
    assert NUMBER not in mask(f"{before}{NUMBER}@patient.mssante.fr")
    assert mask_text(mask_text(address)) == mask_text(address)
