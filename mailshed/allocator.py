"""How the C library's allocator keeps memory, and when it gives it back.

Large mail data passes through memory in pieces of up to 256 KiB, which threads read from files. As
it comes, glibc gives each thread a heap of its own, each of which keeps what it once held; after
twenty messages of 25 MiB at once that is twenty MiB more than anybody needs. And whatever size was
freed last becomes the size up to which memory is kept.

So there is one heap for all threads, which costs nothing that can be measured, since the
interpreter lets one of them run at a time; what is larger than any piece comes from the kernel and
goes back to it; and now and then what lies unused within the heap is given back too.

Other C libraries are left alone: musl has no such settings and needs none. Sources: mallopt(3),
malloc_trim(3).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

HEAPS_MAX = 1
MAPPED_OCTETS = 1024 * 1024
"""What is at least so large is mapped; a fixed value, which pieces of mail data stay below."""
KEPT_OCTETS = 16 * 1024 * 1024
"""Unused memory at the end of the heap that is kept until the next `give_back`.

With 1 MiB, twenty clients that send 1 MiB each cost 150 page faults a message, a tenth of its CPU.
"""

# Of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def begin() -> None:
    """Set it up, before there is any other thread; what cannot be set stays as it is."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_ARENA_MAX, HEAPS_MAX)
        library.mallopt(_M_MMAP_THRESHOLD, MAPPED_OCTETS)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_OCTETS)


def give_back() -> None:
    """Give back what is unused: half a millisecond, and one more for each 8 MiB that there is."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> "ctypes.CDLL | None":
    """The C library, if it is one that knows these functions and we may call it."""
    try:
        import ctypes  # noqa: PLC0415 - a hardened system may forbid what it does when it is loaded

        library = ctypes.CDLL(None)
        library.mallopt, library.malloc_trim  # noqa: B018 - AttributeError without them
    except (ImportError, AttributeError, MemoryError, OSError):
        return None
    return library
