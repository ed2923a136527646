"""Command line of the training script."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

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
    parser.add_argument("--start", type=Path, help="an exported folder to go on from (default: random weights)")
    parser.add_argument("--part", choices=("all", "unet", "decoder", "sharpen", "export"), default="all")
    options = parser.parse_args(arguments)
    work = options.work or options.out.with_name(options.out.name + ".work")
    try:
        if options.part == "all":
            return _train_all(options, work)
        if options.part == "export":
            _export(options.stills, work, options.out)
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
    shared += ["--start", str(options.start)] if options.start else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bglora.assets.train_mini", *shared, "--part"]
    half = ["--minutes", str(options.minutes / 2)]
    painter = subprocess.Popen([*command, "unet", "--minutes", str(options.minutes)], env=environment)
    failed = any(subprocess.run([*command, part, *half], env=environment).returncode for part in ("decoder", "sharpen"))
    if painter.wait() or failed:
        return 1
    _export(options.stills, work, options.out)
    return 0


def _prepare(options: argparse.Namespace, work: Path) -> None:
    """Fit the encoder and the vocabulary, once for all parts, or take up those of the weights to start with."""
    import numpy as np

    from bglora.assets.train_mini import export, pca_encoder, restart, stills, text

    if (work / "basis.safetensors").exists():
        return
    if options.start:
        restart.prepare(options.start, work)
        return
    pictures = stills.read_stills(options.stills)
    train = [still for still in pictures if not still.held_out]
    small = [np.asarray(stills.pixels(still).reduce(2), np.float32) / 127.5 - 1.0 for still in train]
    text.train_tokenizer([still.caption for still in pictures] + ["with a character"], work / "vocabulary")
    export.save_basis(pca_encoder.fit(np.stack(small)), work / "basis.safetensors")


def _train(options: argparse.Namespace, work: Path) -> None:
    import torch

    from bglora.assets.train_mini import decoder, export, sharpen, stills, unet

    torch.set_num_threads(1)
    _prepare(options, work)
    pictures, basis = stills.read_stills(options.stills), export.load_basis(work / "basis.safetensors")

    def report(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {options.part}: {line}", flush=True)

    if options.part == "sharpen":
        sharpen.Trainer(pictures, basis, work, SEED).run(options.minutes, report)
        return
    trainer = (unet if options.part == "unet" else decoder).Trainer(pictures, basis, work, SEED)
    if options.start:
        trainer.start(options.start)
    trainer.run(options.minutes, report)


def _export(folder: Path, work: Path, out: Path) -> None:
    from bglora.assets.train_mini import export, sharpen, stills, unet

    for name in ("basis.safetensors", "unet.pt", "decoder.pt", "sharp.pt"):
        if not (work / name).exists():
            raise UserError("not trained yet", where=str(work / name), cure="run it without --part export first")
    basis = export.load_basis(work / "basis.safetensors")
    painter, first, second = unet.Trainer(stills.read_stills(folder), basis, work, SEED).averaged()
    vae = sharpen.Trainer([], basis, work, SEED).averaged()
    export.write_pipeline(painter, (first, second), work, vae, basis, out)


if __name__ == "__main__":
    sys.exit(main())
