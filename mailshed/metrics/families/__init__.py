"""The metrics, by the question they answer; `mailshed.metrics.catalog` joins them."""
