"""Names of things that there are."""

from tests.support.drafts import paths


def test_quotas_are_of_classes_that_exist_and_have_one_each() -> None:
    quotas = [{"class": "bulk"}, {"class": "bulks"}, {"class": "bulk"}, {"soft": 1}, 7]
    assert paths({"quotas": {"per_class": quotas}}) == [
        "quotas.per_class.1.class",
        "quotas.per_class.2.class",
    ]
    assert paths({"quotas": {"per_class": "bulk"}}) == []
