from mailshed.config.policy import ClassificationPolicy
from mailshed.terms import TrafficClass


def traffic_class(name: str) -> TrafficClass:
    return TrafficClass(
        name=name,
        rank=0,
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
