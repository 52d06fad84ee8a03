"""What the path of a live message goes by."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from mailshed.classification.classifier import Classifier
from mailshed.livepolicies import LivePolicies
from mailshed.mail.networks import NetworkSet
from tests.support.builders import classification_policy, client, relay_policy


@pytest.fixture
def policies() -> LivePolicies:
    return LivePolicies(
        hostname="mx.example.org",
        classifier=Classifier(classification_policy()),
        relay=relay_policy(),
        clinical_networks=NetworkSet([ip_network("10.1.0.0/16")]),
        lifetime=86400.0,
        retry_pause=30.0,
        respond_by=60.0,
        respond_by_user_agent=20.0,
    )


def test_a_client_is_clinical_by_its_network(policies: LivePolicies) -> None:
    assert policies.is_clinical(client("10.1.2.3"))
    assert not policies.is_clinical(client("10.2.2.3"))


def test_the_header_says_how_urgent_it_is_only_if_asked_trusted_and_first(
    policies: LivePolicies,
) -> None:
    trusted = client(is_trusted=True)
    assert not policies.may_be_told_later(trusted, None), "nobody has asked for it"
    asked = replace(policies, reads_priority_header=True)
    assert asked.may_be_told_later(trusted, None)
    assert not asked.may_be_told_later(trusted, 0), "the parameter of MAIL has said it"
    assert not asked.may_be_told_later(client(), None), "whoever wrote it is nobody we know"
