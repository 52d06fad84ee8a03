"""Numbers in cells are what the library's families show."""

from mailshed.metrics.cells import Counter, Histogram


def test_a_cell_that_is_kept_counts_with_its_labels() -> None:
    counter = Counter("messages_accepted_total")
    kept = counter.cell("bulk", "relayed")
    kept[0] += 2
    counter.add(("bulk", "relayed"))
    counter.add(("bulk", "spooled"), 5)
    assert counter.cell("bulk", "relayed") is kept
    found = {tuple(each.labels.values()): each.value for each in counter.export().samples}
    assert found == {("bulk", "relayed"): 3, ("bulk", "spooled"): 5}


def test_what_was_never_counted_is_zero_and_does_not_appear() -> None:
    counter = Counter("messages_accepted_total")
    assert counter.value("bulk", "relayed") == 0
    assert counter.export().samples == []


def test_a_row_that_is_kept_takes_values_with_its_labels() -> None:
    histogram = Histogram("message_size_bytes")
    kept = histogram.declare("bulk")
    histogram.note(kept, 1024.0)
    histogram.observe(("bulk",), 5000.0)
    assert histogram.declare("bulk") is kept
    samples = {
        (each.name.removeprefix("mailshed_message_size_bytes_"), each.labels.get("le")): each.value
        for each in histogram.export().samples
    }
    assert samples["bucket", "1024.0"] == 1, "an edge belongs to what is below it"
    assert (samples["bucket", "4096.0"], samples["bucket", "+Inf"]) == (1, 2)
    assert (samples["count", None], samples["sum", None]) == (2, 6024.0)
