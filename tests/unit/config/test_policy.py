from mailshed.config.policy import ClassificationPolicy
from mailshed.terms import TrafficClass


def traffic_class(name: str, rank: int = 0) -> TrafficClass:
    return TrafficClass(
        name=name,
        rank=rank,
        threshold=1.0,
        wait_max_mta=0.0,
        wait_max_user_agent=0.0,
        objective=1.0,
    )


def test_mail_of_a_class_that_the_configuration_has_lost_is_of_the_default_class() -> None:
    first, second = traffic_class("first"), traffic_class("second")
    policy = ClassificationPolicy(classes=(first, second), rules=(), default=second)

    assert policy.by_name("first") is first
    assert policy.by_name("gone") is second


def test_spooled_clinical_mail_stays_clinical_when_its_class_is_gone() -> None:
    clinical, rest = traffic_class("emergency"), traffic_class("rest", rank=3)
    policy = ClassificationPolicy(classes=(rest, clinical), rules=(), default=rest)

    assert policy.of_spooled("clinical", 0) is clinical
    assert policy.of_spooled("bulk", 5) is rest
    assert policy.of_spooled("emergency", 0) is clinical
    without = ClassificationPolicy(classes=(rest,), rules=(), default=rest)
    assert without.of_spooled("clinical", 0) is rest
