"""`python -m mailshed.metrics` prints the reference of all metrics, docs/metrics.md."""

import sys

from mailshed.metrics.catalog import reference

if __name__ == "__main__":
    sys.stdout.write(reference())
