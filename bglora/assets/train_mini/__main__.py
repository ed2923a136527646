"""Command line of the training script."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bglora.errors import UserError

SEED = 7


def main(arguments: list[str] | None = None) -> int:
    """Train and export `mini`; stopped runs go on where they were."""
    parser = argparse.ArgumentParser(prog="python -m bglora.assets.train_mini", description=__doc__)
    parser.add_argument("--stills", type=Path, required=True, help="folder of pictures with captions.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the pipeline to")
    parser.add_argument("--work", type=Path, help="folder of the checkpoints (default: OUT with .work at its end)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=120.0,
        help="training time by the wall clock; with --part all, of the U-Net, and of decoder and sharpen together",
    )
    parser.add_argument(
        "--start",
        type=Path,
        nargs="+",
        default=[],
        help="an exported folder to go on from, of several the mean of their U-Nets (default: random weights)",
    )
    parser.add_argument(
        "--more", type=Path, nargs="*", default=[], help="folders of further stills, for the critic of --part reward"
    )
    parser.add_argument("--part", choices=("all", "unet", "decoder", "sharpen", "reward", "export"), default="all")
    options = parser.parse_args(arguments)
    work = options.work or options.out.with_name(options.out.name + ".work")
    try:
        if options.more and options.part != "reward":
            raise UserError("--more is for the critic alone", where="--more", cure="--part reward, or no --more")
        if options.part == "all":
            return _train_all(options, work)
        if options.part == "export":
            _export(options, work)
        else:
            _train(options, work)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _train_all(options: argparse.Namespace, work: Path) -> int:
    """U-Net and decoder at once, a process with one thread each, then the decoder's sharpening and the export."""
    _prepare(options, work)
    shared = ["--stills", str(options.stills), "--out", str(options.out), "--work", str(work)]
    shared += ["--start", *map(str, options.start)] if options.start else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bglora.assets.train_mini", *shared, "--part"]
    half = ["--minutes", str(options.minutes / 2)]
    painter = subprocess.Popen([*command, "unet", "--minutes", str(options.minutes)], env=environment)
    failed = any(subprocess.run([*command, part, *half], env=environment).returncode for part in ("decoder", "sharpen"))
    if painter.wait() or failed:
        return 1
    _export(options, work)
    return 0


def _prepare(options: argparse.Namespace, work: Path) -> None:
    """Fit the encoder and the vocabulary, once for all parts, or take up those of the weights to start with."""
    import numpy as np

    from bglora.assets.train_mini import export, pca_encoder, restart, stills, text

    if options.start:
        restart.prepare(options.start, work)
        return
    if (work / "basis.safetensors").exists():
        return
    pictures = stills.read_stills(options.stills)
    train = [still for still in pictures if not still.held_out]
    small = [np.asarray(stills.pixels(still).reduce(2), np.float32) / 127.5 - 1.0 for still in train]
    text.train_tokenizer([still.caption for still in pictures] + ["with a character"], work / "vocabulary")
    export.save_basis(pca_encoder.fit(np.stack(small)), work / "basis.safetensors")


def _train(options: argparse.Namespace, work: Path) -> None:
    import torch

    from bglora.assets.train_mini import decoder, export, reward, sharpen, stills, unet

    torch.set_num_threads(1)
    if options.part == "reward" and not options.start:
        raise UserError("--part reward goes on from a painter", where=str(work), cure="--start FOLDER that --out wrote")
    _prepare(options, work)
    pictures, basis = stills.read_stills(options.stills), export.load_basis(work / "basis.safetensors")

    def report(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {options.part}: {line}", flush=True)

    if options.part == "sharpen":
        sharpen.Trainer(pictures, basis, work, SEED).run(options.minutes, report)
        return
    if options.part == "reward":
        _only_painter(work, unet.CHECKPOINT)
        rewarded = reward.Trainer(pictures, basis, work, SEED, options.more)
        rewarded.start(options.start)
        rewarded.run(options.minutes, report)
        return
    trainer = (unet if options.part == "unet" else decoder).Trainer(pictures, basis, work, SEED)
    if options.start:
        trainer.start(options.start)
    trainer.run(options.minutes, report)


def _only_painter(work: Path, other: str) -> None:
    if (work / other).exists():
        raise UserError(
            "another painter was trained in this work folder, and which of the two to take can't be told",
            where=str(work / other),
            cure="export it first, and give --work another folder",
        )


def _export(options: argparse.Namespace, work: Path) -> None:
    """Write what was trained in the work folder; what wasn't trained there stays as it is in the folders of --start."""
    from bglora.assets.train_mini import decoder, export, reward, sharpen, stills, unet

    decoders = [(work / part.CHECKPOINT).exists() for part in (decoder, sharpen)]
    if not options.start and not any((work / part.CHECKPOINT).exists() for part in (reward, unet)):
        raise _untrained(work / unet.CHECKPOINT)
    if any(decoders) != all(decoders) or not (options.start or all(decoders)):
        raise _untrained(work / (sharpen if decoders[0] else decoder).CHECKPOINT)
    _prepare(options, work)
    pictures, basis = stills.read_stills(options.stills), export.load_basis(work / "basis.safetensors")
    painter, first, second = _painter(options, work, pictures, basis)
    if all(decoders):
        vae = sharpen.Trainer([], basis, work, SEED).averaged()
    else:
        started = decoder.Trainer([], basis, work, SEED)
        started.start(options.start)
        vae = started.vae
    export.write_pipeline(painter, (first, second), work, vae, basis, options.out)


def _painter(options: argparse.Namespace, work: Path, pictures: Any, basis: Any) -> tuple[Any, Any, Any]:
    """U-Net and both text encoders."""
    from bglora.assets.train_mini import reward, unet

    if (work / reward.CHECKPOINT).exists():
        _only_painter(work, unet.CHECKPOINT)
        return reward.Trainer(pictures, basis, work, SEED).averaged()
    trainer = unet.Trainer(pictures, basis, work, SEED)
    if (work / unet.CHECKPOINT).exists():
        return trainer.averaged()
    trainer.start(options.start)
    return trainer.unet, *trainer.encoders


def _untrained(path: Path) -> UserError:
    return UserError("not trained yet", where=str(path), cure="run it without --part export first")


if __name__ == "__main__":
    sys.exit(main())
