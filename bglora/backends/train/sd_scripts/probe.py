"""Run as a file by the Python of sd-scripts, which may be an older one: says what is there and what the script takes.

    python probe.py FOLDER_OF_SD_SCRIPTS

A file, for `conda run` refuses code with line breaks as an argument. Its answer is one line of JSON behind a mark, for
packages print what they like when they are imported.
"""

import json
import sys

MARK = "bglora:"


def main():  # type: ignore[no-untyped-def]
    """Imports what a training needs, and tells versions, graphics cards and options."""
    sys.path[0] = sys.argv[1]  # not the folder of this file, whose names are ours
    import accelerate
    import torch

    cards = torch.cuda.device_count()
    for other in ("mps", "xpu"):
        there = getattr(torch, other, None)
        if not cards and there is not None and hasattr(there, "device_count"):
            cards = there.device_count()
    import sdxl_train_network as script  # type: ignore[import-not-found,unused-ignore]

    parser = script.setup_parser() if hasattr(script, "setup_parser") else None
    told = {
        "packages": [sys.version.split()[0], torch.__version__, accelerate.__version__],
        "cards": cards,
        "options": [one.dest for one in parser._actions] if parser else [],
    }
    sys.stdout.write("\n" + MARK + json.dumps(told) + "\n")


if __name__ == "__main__":
    main()  # type: ignore[no-untyped-call]
