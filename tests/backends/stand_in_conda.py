"""Stands for `conda run -n NAME python ...` and for accelerate's launcher in that environment: quick, no torch.

Writes what the launcher was told to `launched.json` beside it. As the real one, it starts the script as a process of
its own and turns any failure of it into an error of its own with exit code 1.
"""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

LAUNCHER = ["-m", "accelerate.commands.launch"]
FLAGS = ("--multi_gpu",)


def probe(words: list[str]) -> int:
    """The real probe, with light modules in place of torch and accelerate."""
    cards = Path(__file__).with_name("cards")
    count = int(cards.read_text()) if cards.exists() else 2
    torch, accelerate = ModuleType("torch"), ModuleType("accelerate")
    torch.__version__, accelerate.__version__ = "2.6.0+cu124", "1.6.0"
    torch.cuda = SimpleNamespace(device_count=lambda: count)
    sys.modules |= {"torch": torch, "accelerate": accelerate}
    sys.argv = words
    print("some package greets")
    runpy.run_path(words[0], run_name="__main__")
    return 0


def main() -> int:
    words = sys.argv[1:]
    assert words[:4] == ["run", "--no-capture-output", "-n", "kohya"] and words[4] == "python", words
    rest = words[5:]
    if rest[0].endswith("probe.py"):
        return probe(rest)
    if rest[:2] != LAUNCHER:
        return subprocess.call([sys.executable, *rest])
    options, script = {}, rest[2:]
    while script[0].startswith("--"):
        name = script.pop(0)
        options[name] = "" if name in FLAGS else script.pop(0)
    told = {"options": options, "script": script, "variables": dict(os.environ)}
    Path(__file__).with_name("launched.json").write_text(json.dumps(told))
    done = subprocess.run([sys.executable, *script])
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, [sys.executable, *script])
    return 0


if __name__ == "__main__":
    sys.exit(main())
