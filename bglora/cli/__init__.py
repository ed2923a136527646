"""The command `bglora`: parse, call one method of `Project`, print."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bglora.cli.app import app
from bglora.cli.options import CURRENT, Options, Session, begin
from bglora.errors import EXIT_ITEMS_FAILED, EXIT_OK, BgloraError, MachineError, UserError

__all__ = ["app", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Errors are told in three lines."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    CURRENT.clear()
    try:
        return int(app(words, prog_name="bglora", standalone_mode=False) or EXIT_OK)
    except BgloraError as error:
        return _told(error, words)
    except BrokenPipeError:
        _leave_pipe()
        return EXIT_OK
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        return _told(_missing(name), words) if name and name != "bglora" else _crashed(error, words)
    except OSError as error:
        return _told(_refused(error), words) if error.filename else _crashed(error, words)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's errors of usage; their class differs between its versions
            return _told(_usage(error), words)
        return _crashed(error, words)


def _told(error: BgloraError, words: list[str]) -> int:
    _session(words).console.error(error)
    return error.exit_code


def _refused(error: OSError) -> UserError:
    return UserError(
        f"The system refuses: {error.strerror}.",
        where=str(error.filename),
        cure="Check that this path is there, that you may use it, and that its disk has room.",
    )


def _missing(package: str) -> MachineError:
    from bglora.backends import DISTRIBUTIONS

    return MachineError(
        f"The Python package {package} is not here.",
        where=sys.executable,
        cure=f"python -m pip install {DISTRIBUTIONS.get(package, package)}; `bglora doctor` looks at everything.",
    )


def _usage(error: Exception) -> UserError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "bglora"
    message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    message = message.replace(": Value error, ", ": ")  # how a choice of typer's begins what is wrong with a word
    return UserError(message, where=command, cure=f"`{command} --help` shows how it is written.")


def _crashed(error: Exception, words: list[str]) -> int:
    session = _session(words)
    session.console.crash(error, _log(error, session.opened))
    return EXIT_ITEMS_FAILED


def _session(words: list[str]) -> Session:
    """The running command's session; before there is one, what can be seen on the command line counts."""
    before_end = words[: words.index("--")] if "--" in words else words
    return CURRENT[0] if CURRENT else begin(Options(json="--json" in before_end, debug="--debug" in before_end))


def _log(error: Exception, opened: list[Path]) -> Path | None:
    """Writes the traceback where the project keeps its logs, else in the system's folder for temporary files."""
    text = f"{datetime.now().isoformat(timespec='seconds')}\n{' '.join(sys.argv)}\n\n" + "".join(
        traceback.format_exception(error)
    )
    for folder in (*(root / ".bglora" / "logs" for root in opened[-1:]), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "bglora-error.txt"
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    return None


def _leave_pipe() -> None:
    """The reader of our output went away: nothing more can be said, and Python must not try at its end."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
