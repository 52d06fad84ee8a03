"""One search of one target: `python -m tests.fuzz.search TARGET SECONDS RUNS`.

A process of its own, since libFuzzer ends the process it runs in. atheris instruments modules while
they are imported, so it comes before everything else, and only what is ours is instrumented: the
rest would cost more than it tells.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "fuzz"
FINDINGS = CACHE / "findings"
INPUT_OCTETS_MAX = 4096
INPUT_SECONDS_MAX = 10
"""A parser needs microseconds; a machine that does much else at the time is forgiven."""
MEMORY_MIB_MAX = 1024


def main() -> None:
    """Search; never returns."""
    import atheris  # noqa: PLC0415 - first of all, and not on every machine

    name, seconds, runs = sys.argv[1:]
    with atheris.instrument_imports(include=["mailshed"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - see above
    corpus = CACHE / name
    corpus.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(exist_ok=True)
    atheris.Setup(
        [
            "fuzz",
            f"-max_total_time={seconds}",
            f"-runs={runs}",
            f"-max_len={INPUT_OCTETS_MAX}",
            f"-timeout={INPUT_SECONDS_MAX}",
            f"-rss_limit_mb={MEMORY_MIB_MAX}",
            f"-artifact_prefix={FINDINGS}/{name}-",
            str(corpus),
            str(HERE / "seeds" / name),
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
