"""Files that ship with the package: the small base model `mini`, and what other parts put beside it."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path


def asset(*parts: str) -> Path:
    """Path of a shipped file or folder, for example `asset("mini")`.

    Works from a checkout and from an installed wheel.

    Raises:
        FileNotFoundError: the package has no such file; the installation is not complete.
    """
    found = files(__name__).joinpath(*parts)
    with as_file(found) as path:  # packages are installed as plain files, so this is the file itself
        if not path.exists():
            raise FileNotFoundError(f"the package has no {'/'.join(parts)}; install it again")
        return Path(path)
