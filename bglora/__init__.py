"""A 3D-animated film in, one background LoRA per location out.

    import bglora

    project = bglora.init("harbor", films=["harbor.mp4"])
    project.run(to="cluster")
    for stage in project.status():
        ...
    project.drop("harbor-s003/*", reason="too dark")
    project.run()

Everything that the command `bglora` does is a method of `Project`. Errors that a person can mend are `BgloraError`s.
"""

from __future__ import annotations

__version__ = "0.1.0"

from bglora.errors import BgloraError, Interrupted, MachineError, TimeIsUp, UserError
from bglora.project import Project, demo, doctor, init, models, open

__all__ = [
    "BgloraError",
    "Interrupted",
    "MachineError",
    "Project",
    "TimeIsUp",
    "UserError",
    "__version__",
    "demo",
    "doctor",
    "init",
    "models",
    "open",
]
