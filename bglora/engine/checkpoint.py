"""Named places where a kill matters, so that tests can strike exactly there.

Nothing listens in normal use. A test that sets `listener` may raise from it, which looks like the process dying there.
"""

from __future__ import annotations

from collections.abc import Callable

listener: Callable[[str], None] | None = None


def reached(place: str) -> None:
    """Says that the engine has come to `place`, such as `intent-stored` or `moved`."""
    if listener is not None:
        listener(place)
