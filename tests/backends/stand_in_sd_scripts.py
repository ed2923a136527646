"""Speaks as sd-scripts' sdxl_train_network.py does, as recorded of version 0.10.1.

Copied into a folder under its real name. It trains a number: every value of the up matrix is the count of optimizer
steps, so a test sees how many were taken, also over several runs. `fault.json` beside it makes it go wrong:
{"kind": "oom" | "nan" | "kill" | "disk" | "value" | "module" | "cut" | "zero" | "no_file" | "half_state" | "late",
"at": step}; with "hold" it waits at that step.
"""

import argparse
import json
import math
import os
import shutil
import signal
import struct
import sys
import time
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
FAULT = json.loads((HERE / "fault.json").read_text()) if (HERE / "fault.json").exists() else {}
KIND, AT = FAULT.get("kind", ""), FAULT.get("at", -1)
if KIND == "module":
    import voluptuous_which_is_not_here  # noqa: F401
FILL = "██████████"


def setup_parser() -> argparse.ArgumentParser:
    """All options of the recorded version, without its defaults."""
    parser = argparse.ArgumentParser()
    types = {"int": int, "float": float}
    for name, entry in json.loads((HERE / "arguments.json").read_text()).items():
        kind, many = entry[0].rstrip("*"), {"nargs": "*"} if entry[0].endswith("*") else {}
        if kind == "bool":
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=types.get(kind, str), default=None, **many)
    return parser


def parse() -> argparse.Namespace:
    """The file's options are taken as they come, unknown ones and wrong types too; the command line is parsed over."""
    parser = setup_parser()
    path = parser.parse_args().config_file
    path = path if path.endswith(".toml") else path + ".toml"
    if not os.path.exists(path):
        sys.exit(1)
    flat = {}
    for key, value in tomllib.loads(Path(path).read_text("utf-8")).items():
        flat |= value if isinstance(value, dict) else {key: value}
    return parser.parse_args(namespace=argparse.Namespace(**flat))


def say(text: str) -> None:
    print(text, flush=True)


def log(text: str) -> None:
    sys.stderr.write(f"2026-11-23 06:02:49 INFO     {text}   train_util.py:4744\n")
    sys.stderr.flush()


def bar(step: int, total: int, loss: float | None) -> None:
    part = 100 * step // max(1, total)
    ending = "" if loss is None else f", avr_loss={loss:.3g}"
    speed = "00:01<00:10,  1.48s/it" if step else "00:00<?, ?it/s"
    sys.stderr.write(f"\rsteps: {part:3d}%|{FILL[: part // 10]:10s}| {step}/{total} [{speed}{ending}]")
    sys.stderr.flush()


def tensors(path: Path, value: float, cut: int = 0) -> None:
    shapes = {"alpha": [], "lora_down.weight": [1, 4], "lora_up.weight": [4, 1]}
    header, data = {"__metadata__": {"ss_steps": str(int(value))}}, b""
    for name, shape in shapes.items():
        raw = struct.pack("<f", value if "up" in name else 1.0) * math.prod(shape)
        header[f"lora_unet_input_blocks_4_1_proj_in.{name}"] = {
            "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)],
        }  # fmt: skip
        data += raw
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + data
    path.write_bytes(whole[: len(whole) - cut])


def weight(path: Path) -> float:
    return struct.unpack("<f", path.read_bytes()[-4:])[0]


def archive(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("archive/data.pkl", text)


def save_state(folder: Path, epoch: int, step: int, value: float, schedule: int) -> None:
    log(f"Saving current state to {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train_state.json").write_text(json.dumps({"current_epoch": epoch, "current_step": step}))
    tensors(folder / "model.safetensors", value)
    if KIND == "half_state" and epoch == AT:
        (folder / "optimizer.bin").write_bytes(b"PK half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    for name in ("optimizer.bin", "scheduler.bin", "sampler.bin"):
        archive(folder / name, str(schedule))
    archive(folder / "random_states_0.pkl", "x")
    log(f"Random states saved in {folder / 'random_states_0.pkl'}")


def fail(step: int) -> None:
    if step != AT:
        return
    if KIND == "oom":
        raise type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.99 GiB"
        )
    if KIND == "disk":
        raise OSError(28, "No space left on device")
    if KIND == "value":
        raise ValueError("unknown optimizer_type: Adamm")
    if KIND == "hold":
        time.sleep(120)  # till it is stopped
    if KIND == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def batches(args: argparse.Namespace) -> int:
    parent = Path(args.train_data_dir or "nowhere")
    folders = [one for one in parent.iterdir() if one.is_dir()] if parent.is_dir() else []
    counted = [one for one in folders if one.name.split("_")[0].isdigit()]
    return sum(int(one.name.split("_")[0]) * len(list(one.glob("*.png"))) for one in counted)


def main() -> None:
    args = parse()
    log("Loading settings from run.toml...")
    images = batches(args)
    if not images:
        log("No data found. Please verify arguments (train_data_dir must be the parent of folders with images)")
        return
    sys.stderr.write(f"\rread caption:   0%|          | 0/{images} [00:00<?, ?it/s]")
    sys.stderr.write(f"\rread caption: 100%|{FILL}| {images}/{images} [00:00<00:00, 7332.70it/s]\n")
    out, name, group = Path(args.output_dir), args.output_name, args.gradient_accumulation_steps or 1
    length = math.ceil(images / (args.train_batch_size or 1))
    per_epoch = math.ceil(length / group)
    if args.max_train_epochs:
        args.max_train_steps = args.max_train_epochs * per_epoch
        say(f"override steps. steps for {args.max_train_epochs} epochs is / 指定: {args.max_train_steps}")
    total = args.max_train_steps or 1600
    epochs = math.ceil(total / per_epoch)
    value, schedule, from_state = 0.0, 0, None
    if args.resume:
        state = Path(args.resume)
        from_state = json.loads((state / "train_state.json").read_text())["current_step"]
        value = weight(state / "model.safetensors")
        schedule = int(zipfile.ZipFile(state / "scheduler.bin").read("archive/data.pkl"))
    initial = args.initial_step if args.initial_step is not None else from_state or 0
    assert not args.skip_until_initial_step, "skips too many epochs with accumulation"
    assert initial == 0 or total > initial, "max_train_steps should be greater than initial step"
    first = initial // per_epoch
    say("running training / 学習開始")
    say(f"  num train images * repeats / 学習画像の数×繰り返し回数: {images}")
    say(f"  num batches per epoch / 1epochのバッチ数: {length}")
    say(f"  num epochs / epoch数: {epochs}")
    say(f"  gradient accumulation steps / 勾配を合計するステップ数 = {group}")
    say(f"  total optimization steps / 学習ステップ数: {total}")
    step = 0
    bar(0, total, None)
    out.mkdir(parents=True, exist_ok=True)
    for epoch in range(first, epochs):
        say(f"\nepoch {epoch + 1}/{epochs}\n")
        log("epoch is incremented.")
        for batch in range(length):
            ends = (batch + 1) % group == 0 or batch + 1 == length
            fail(step)
            step, schedule, value = step + ends, schedule + ends, value + ends
            bad = KIND == "nan" and step >= AT
            bar(step, total, float("nan") if bad else 1.5 - 0.01 * schedule)
            every = args.save_every_n_steps
            if ends and every and step % every == 0:
                say(f"\nsaving checkpoint: {out}/{name}-step{step:08d}.safetensors")
                tensors(out / f"{name}-step{step:08d}.safetensors", value)
                if args.save_state:
                    save_state(out / f"{name}-step{step:08d}-state", epoch, step, value, schedule)
            if step >= total:
                break
        every = args.save_every_n_epochs
        if every and (epoch + 1) % every == 0 and epoch + 1 < epochs:
            at, gone = f"{name}-{epoch + 1:06d}", f"{name}-{epoch + 1 - every * (args.save_last_n_epochs or 99):06d}"
            say(f"\nsaving checkpoint: {out}/{at}.safetensors")
            tensors(out / f"{at}.safetensors", value)
            (out / f"{gone}.safetensors").unlink(missing_ok=True)
            if args.save_state:
                save_state(out / f"{at}-state", epoch + 1, step, value, schedule)
                shutil.rmtree(out / f"{gone}-state", ignore_errors=True)
    if args.save_state:
        save_state(out / f"{name}-state", epochs, step, value, schedule)
    if KIND == "no_file":
        return
    say(f"\nsaving checkpoint: {out}/{name}.safetensors")
    tensors(out / f"{name}.safetensors", 0.0 if KIND == "zero" else value, cut=5 if KIND == "cut" else 0)
    log("model saved.")
    if KIND == "late":
        raise RuntimeError("NCCL communicator was aborted")


if __name__ == "__main__":
    main()
