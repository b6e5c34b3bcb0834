"""Too little memory, told in one sentence wherever torch, NumPy or Python notice it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ganglion.engine.errors import EngineError

# What torch says where it has no exception of its own for this: the CPU's allocator, and those of some devices.
PHRASES = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation overflowed")
ASKED = re.compile(r"[Tt]ried to allocate ([0-9]+ bytes|[0-9.]+ [KMGT]?iB)")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there is too little memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)
    )


@contextmanager
def enough_memory(kind: type[EngineError], advice: str) -> Iterator[None]:
    """Raise `kind`, with what would help, in place of the errors that mean too little memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        asked = ASKED.search(str(error))
        size = f" for {_readable(asked.group(1))} at once" if asked else ""
        raise kind(f"there is not enough memory{size}; {advice} takes less") from error


def _readable(size: str) -> str:
    count = size.removesuffix(" bytes")
    return f"{int(count) / 1e9:,.1f} GB" if count.isdigit() else size
