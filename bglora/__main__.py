"""`python -m bglora` is the command `bglora`."""

from __future__ import annotations

from bglora.cli import main

if __name__ == "__main__":
    main()
