"""What this machine can do."""

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path


def examine() -> dict:
    "Findings by name, each one short text."
    import av
    import torch

    from babyvlm.core.device import device, precision

    writers = {c for c in ("libx264", "hevc", "aac", "flac", "mpeg4") if c in av.codecs_available}
    speech = "espeak-ng" if find_spec("espeakng_loader") else "the built-in hum (install babyvlm[speech] for words)"
    return {
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, device {device()}, training in {precision()}",
        "processors": str(os.cpu_count()),
        "memory": f"{memory_bytes() / 2**30:.0f} GiB",
        "free disk": f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB here",
        "video": f"{'decord, then ' if find_spec('decord') else ''}PyAV {av.__version__}; writes {', '.join(sorted(writers))}",
        "speech": speech,
    }


def memory_bytes() -> int:
    "Physical memory, in bytes; 0 where the system does not say."
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
