"""What a metric is."""

from mailshed.metrics.family import Kind, counter, gauge, histogram


def test_each_kind_is_made_by_its_name() -> None:
    made = [
        counter("mails_total", "class reason", "Mails.", "Many is many."),
        gauge("mails", "", "Mails.", "Many is many."),
        histogram("mail_seconds", "class", "Mails.", "Many is many.", (1.0, 2.0)),
    ]
    assert [each.kind for each in made] == [Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM]
    assert [each.labels for each in made] == [("class", "reason"), (), ("class",)]
    assert [each.buckets for each in made] == [(), (), (1.0, 2.0)]
    assert made[0].full_name == "mailshed_mails_total"
