"""Names of OpenCLIP models and weights, as a setting gives them, and what they stand for.

ViT-L-14/laion2b_s32b_b82k        architecture and tag: assets/openclip.toml, else the package open_clip_torch
ViT-L-14//data/weights.pt         architecture and the path of a file
laion/CLIP-ViT-L-14-...           a repository on the hub (also with hf-hub: before it)
openclip-vit-l-14                 a name of weights.toml
/data/clip                        a folder, or a file with open_clip_config.json beside it
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from bglora.assets import asset
from bglora.backends import weights
from bglora.errors import MachineError, UserError

SETTING = "cluster.openclip"
QUICK = "-quickgelu"
"""Ending of architectures with OpenAI's activation, x * sigmoid(1.702 x)."""

FAMILIES = ("ViT", "RN", "coca_", "convnext_", "EVA0", "MobileCLIP", "PE-Core", "nllb-clip", "roberta-", "xlm-", "mt5-")
"""How names of OpenCLIP's architectures begin, no owner's on the hub."""

NEEDED = ("open_clip", "torchvision", "timm", "ftfy", "regex")
"""What the package open_clip_torch can't be imported without."""


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Attributes:
        weights: name for `weights.find`: a path, a repository, or a name of weights.toml.
        config: OpenCLIP's model config, if the name says it.
        usual: what the tag says about the preparation of pictures, and `quick_gelu`.
    """

    weights: str
    config: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)


def named(name: str) -> Named:
    """What the setting `cluster.openclip` stands for.

    Raises:
        UserError: an architecture without weights, or a tag that nobody knows.
    """
    name = name.removeprefix("hf-hub:").removeprefix("local-dir:")
    if name in weights.known() or name.startswith(("~", ".")) or Path(name).is_absolute():
        return Named(name)
    architecture, _, rest = name.partition("/")
    config = _config(architecture)
    if not config:
        if architecture.startswith(FAMILIES) and not _package():
            raise _needs_package(name, architecture)
        return Named(name)
    usual = {"quick_gelu": True} if architecture.endswith(QUICK) else {}
    if rest.startswith(("~", ".")) or Path(rest).is_absolute() or Path(rest).suffix in weights.TENSOR_FILES:
        return Named(rest, config, usual)
    tags = _tags(architecture)
    if rest not in tags:
        near = get_close_matches(rest, tags, n=1, cutoff=0.4)
        example = near[0] if near else next(iter(tags), "/PATH/OF/weights.safetensors")
        raise UserError(
            f"OpenCLIP's {architecture} has no weights {rest!r}." if rest else f"{architecture} is no weights yet.",
            where=f"{SETTING} = {name}",
            cure=f'bglora set {SETTING} "{architecture}/{example}"; tags: {", ".join(tags) or "none known"}',
        )
    tag = dict(tags[rest])
    repo = str(tag.pop("repo")).rstrip("/")
    return Named(repo, config, {**tag, **usual})


def _needs_package(name: str, architecture: str) -> MachineError:
    return MachineError(
        f"{architecture} is known to open_clip_torch only, and that can't be used: {package()[1]}.",
        where=f"{SETTING} = {name}",
        cure='pip install "bglora[studio]"; or take one that is known without it: ' + ", ".join(_table()),
    )


def identity(name: str) -> str:
    """The weights behind a name, with their revision, for fingerprints."""
    one = named(name)
    kind = "quick" if one.usual.get("quick_gelu") else ""
    return " ".join(filter(None, (weights.identity(one.weights), kind)))


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(asset("openclip.toml").read_text(encoding="utf-8"))


def _config(architecture: str) -> dict[str, Any]:
    plain = architecture.removesuffix(QUICK)
    if plain in _table():
        return {key: value for key, value in _table()[plain].items() if key != "weights"}
    package = _package()
    return dict(package.get_model_config(architecture) or {}) if package else {}


def _tags(architecture: str) -> dict[str, Mapping[str, Any]]:
    plain = architecture.removesuffix(QUICK)
    if plain in _table():
        return dict(_table()[plain]["weights"])
    package = _package()
    found: dict[str, Mapping[str, Any]] = {}
    for tag in package.list_pretrained_tags_by_model(architecture) if package else ():
        asked = dict(package.get_pretrained_cfg(architecture, tag))
        asked["repo"] = asked.pop("hf_hub", "")
        asked.pop("url", None)
        if asked["repo"]:
            found[tag] = asked
    return found


def package() -> tuple[str, str]:
    """Whether the package open_clip_torch can be used: its version or empty, and why not. Imports nothing.

    A torchvision that was built for another torch is told by the `cuda` line of both packages' version.py: importing
    it would fail, and take transformers with it.
    """
    missing = [name for name in NEEDED if util.find_spec(name) is None]
    if "open_clip" in missing:
        return "", "the package open_clip_torch is not here"
    if missing:
        return "", f"the package open_clip_torch lacks {', '.join(missing)}"
    ours, theirs = _built_for("torch"), _built_for("torchvision")
    if ours != theirs:
        return "", f"torchvision was built for another torch (CUDA {theirs}, torch's {ours}), so open_clip_torch fails"
    return metadata.version("open_clip_torch"), ""


def _built_for(name: str) -> str:
    spec = util.find_spec(name)
    path = Path(spec.origin).parent / "version.py" if spec and spec.origin else None
    line = re.search(r"^cuda\b[^=\n]*=\s*(.+)$", path.read_text("utf-8"), re.M) if path and path.is_file() else None
    return line[1].strip(" '\"") if line else "unknown"


@cache
def _package() -> Any:
    """open_clip_torch, for names that the table doesn't know; None where it can't be used."""
    if util.find_spec("open_clip") is None or not package()[0]:
        return None
    import open_clip

    return open_clip
