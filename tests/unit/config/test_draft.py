"""What is known of a file that has faults."""

from tests.support.drafts import LISTENER, paths, rule


def test_checks_the_valid_sections_of_a_file_that_has_other_faults() -> None:
    raw = {
        "listeners": [{"name": "a"}, LISTENER, {**LISTENER, "typo": 1}, {**LISTENER, "name": "b"}],
        "spool": "nonsense",
        **rule(typo=1, client_networks=[7, "vpm"]),
    }

    assert paths(raw) == [
        "listeners.2.name",
        "listeners.3.bind",
        "classification.rules.0.client_networks.1",
    ]


def test_does_not_call_a_class_unknown_that_is_only_faulty() -> None:
    classes = [{"name": "bulk", "rank": "low"}, {"name": "personal", "rank": 0}]

    assert paths({"classes": classes, **rule()}) == []
    assert paths({"classes": [{"nam": "bulk"}], **rule()}) == []
