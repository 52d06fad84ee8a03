"""The page that Prometheus scrapes, in the format it asks for.

Serving it over HTTP is the operations thread's business; this module only renders, which takes a
few milliseconds for some thousand series and touches nothing that the main loop waits for.
"""

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder


def new_registry() -> CollectorRegistry:
    """A registry that already has the process's own metrics (`process_*`, `python_info`)."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Content type and page for a scraper whose Accept header is `accept` (may be empty)."""
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
