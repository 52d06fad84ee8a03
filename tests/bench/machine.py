"""What a bench ran on."""

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """For JSON; the load average is that of the last minute, so ask before a bench begins."""
    model = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "unix_time": round(time.time()),
        "load_average": round(os.getloadavg()[0], 1),
    }
