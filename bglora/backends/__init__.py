"""Doors to models and algorithms: which there are, what each needs, and how to get one. Imports none of them.

A role is one folder here; a backend is one module in it with

    IDENTITY: str   or   identity(settings) -> str     what it is and which revision: part of every fingerprint
    create(settings) -> object                         the backend, loaded, with the role's method
    names_of_weights(settings) -> {key: name or names} optional: the weights that it reads with these settings
    needs(settings, card_gb) -> Needs                  optional: memory that it takes with these settings (see `needs`)

Another package adds one by an entry point in the group `bglora.<role>` that names such a module.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from bglora.errors import MachineError, UserError

TABLES = {
    "masks": "segment",
    "detect": "segment",
    "fill": "inpaint",
    "embed": "cluster",
    "caption": "caption",
    "train": "train",
    "paint": "train",
}
"""Role to the table of the settings that its backends read."""
ROLES = tuple(TABLES)

DISTRIBUTIONS = {"cv2": "opencv-contrib-python-headless", "av": "av", "sklearn": "scikit-learn", "PIL": "pillow"}
"""Import name to the name that pip knows, where they differ."""


@dataclass(frozen=True)
class Backend:
    """What a backend is and needs, as data: `doctor`, `models` and error messages read it.

    Attributes:
        module: where it is.
        sentence: what it does, for people.
        packages: import names that must be there.
        install: the command that brings them where pip's usual one can't.
        weights: asset folders inside the package that must be there.
        models: keys of its table in the settings that name its weights (see `bglora.backends.weights`), where the
            module has no `names_of_weights` that knows better.
        memory_gb: memory that it takes, about, where the module has no `needs` that knows better.
        gpu_gb: memory on the graphics card, 0 if it needs none; likewise.
        reads: settings of its stage's table that are there for it; where it isn't used, they don't count.
        words: whether an `embed` backend can compare pictures with words, and so title scenes.
    """

    module: str
    sentence: str
    packages: tuple[str, ...] = ()
    install: str = ""
    weights: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    memory_gb: float = 0.5
    gpu_gb: float = 0.0
    reads: tuple[str, ...] = ()
    words: bool = False

    def missing(self) -> list[str]:
        """Import names that are not there. Nothing is imported to find out."""
        return [name for name in self.packages if util.find_spec(name) is None]

    def mend(self) -> str:
        """The command that brings what is missing."""
        if self.install:
            return self.install
        names = " ".join(DISTRIBUTIONS.get(name, name) for name in self.missing())
        return f"pip install {names}" if names else "pip install --force-reinstall bglora"


@dataclass(frozen=True)
class Needs:
    """Memory that a backend takes, in GB: the machine's, and the graphics card's where there is one (0: none)."""

    memory_gb: float
    gpu_gb: float = 0.0


TORCH = ("torch", "diffusers", "transformers", "safetensors")
TRANSFORMERS = ("torch", "transformers", "safetensors", "numpy", "cv2", "scipy")

FOLLOWING = ("targets", "min_score", "window", "redetect")
"""Settings of the table [segment] that who follows characters reads."""
LAMA = ("lama", "lama_side", "lama_tile", "lama_compile")
WORDS = ("prompt", "prompts", "negative_prompt")
DIFFUSION = (*WORDS, "steps", "guidance_scale", "scheduler", "few_steps", "strength", "batch", "low_memory")
BRUSHNET = ("brushnet", "brushnet_base", "lama_first", *DIFFUSION, *LAMA)
"""Settings of the table [inpaint] by what reads them."""

REGISTRY: Mapping[str, Mapping[str, Backend]] = {
    "masks": {
        "motion": Backend(
            "bglora.backends.masks.motion",
            "Finds who moves against the background, without a model.",
            packages=("numpy", "cv2", "scipy"),
            memory_gb=1.0,
        ),
        "layers": Backend(
            "bglora.backends.masks.layers",
            "Takes masks and cut-outs of an earlier segmentation.",
            packages=("numpy", "cv2"),
        ),
        "sam2": Backend(
            "bglora.backends.masks.sam2",
            "Finds what words name and follows it through the shot: SAM 2.1.",
            packages=TRANSFORMERS,
            models=("sam2",),
            memory_gb=4.0,
            gpu_gb=3.5,
            reads=("sam2", "detector", "grounding", *FOLLOWING),
        ),
        "sam3": Backend(
            "bglora.backends.masks.sam3",
            "Finds what words name and follows it, in one model: SAM 3.",
            packages=TRANSFORMERS,
            models=("sam3",),
            memory_gb=6.0,
            gpu_gb=6.0,
            reads=("sam3", *FOLLOWING),
        ),
    },
    "detect": {
        "grounding_dino": Backend(
            "bglora.backends.detect.grounding_dino",
            "Finds characters by words: Grounding DINO.",
            packages=(*TRANSFORMERS, "PIL"),
            memory_gb=2.0,
            gpu_gb=4.0,
        ),
        "owlv2": Backend(
            "bglora.backends.detect.owlv2",
            "Finds characters by words: OWLv2.",
            packages=(*TRANSFORMERS, "PIL"),
            memory_gb=2.0,
            gpu_gb=2.0,
        ),
    },
    "fill": {
        "patch": Backend(
            "bglora.backends.fill.patch",
            "Fills a hole with patches of the same frame, without a model.",
            packages=("numpy", "cv2"),
            memory_gb=1.0,
        ),
        "lama": Backend(
            "bglora.backends.fill.lama",
            "Goes on with what surrounds a hole, patterns and lines too: LaMa.",
            packages=("numpy", "cv2", "torch", "safetensors"),
            models=("lama",),
            memory_gb=2.5,
            gpu_gb=1.5,
            reads=LAMA,
        ),
        "simple_lama": Backend(
            "bglora.backends.fill.simple_lama",
            "LaMa through the package simple-lama-inpainting, picture by picture.",
            packages=("numpy", "torch", "simple_lama_inpainting"),
            install="pip install --no-deps simple-lama-inpainting",
            models=("lama",),
            memory_gb=4.0,
            gpu_gb=4.0,
            reads=LAMA,
        ),
        "brushnet": Backend(
            "bglora.backends.fill.brushnet",
            "Paints a hole by words and by what stands around it: BrushNet on a Stable Diffusion 1.5 or SDXL base.",
            packages=(*TORCH, "peft", "cv2"),
            models=("brushnet", "brushnet_base", "few_steps"),
            memory_gb=8.0,
            gpu_gb=5.0,
            reads=BRUSHNET,
        ),
        "sdxl": Backend(
            "bglora.backends.fill.sdxl",
            "Paints a hole by words with an SDXL model, through diffusers' inpainting pipeline.",
            packages=(*TORCH, "peft", "accelerate", "cv2"),
            models=("sdxl", "few_steps"),
            memory_gb=16.0,
            gpu_gb=8.0,
            reads=("sdxl", "lama_first", *DIFFUSION, *LAMA),
        ),
        "hybrid": Backend(
            "bglora.backends.fill.hybrid",
            "Fills small holes with lama, large ones with brushnet.",
            packages=(*TORCH, "peft", "cv2"),
            models=("lama", "brushnet", "brushnet_base", "few_steps"),
            memory_gb=8.0,
            gpu_gb=5.0,
            reads=("simple_below", *BRUSHNET),
        ),
    },
    "embed": {
        "descriptor": Backend(
            "bglora.backends.embed.descriptor",
            "Tells places apart by color, layout and texture, without a neural net.",
            packages=("numpy", "cv2", "hdbscan", "sklearn"),
            weights=("places",),
        ),
        "openclip": Backend(
            "bglora.backends.embed.openclip",
            "Tells places apart by what they show, and names scenes by words, with any OpenCLIP model.",
            packages=("torch", "transformers", "tokenizers", "safetensors", "PIL"),
            memory_gb=3.0,
            gpu_gb=2.0,
            words=True,
        ),
    },
    "caption": {
        "template": Backend(
            "bglora.backends.caption.template",
            "Writes captions from what can be measured: light, color, view.",
            packages=("numpy", "cv2"),
        ),
        "qwen_vl": Backend(
            "bglora.backends.caption.qwen_vl",
            "Writes captions with Qwen2-VL, 2.5 or 3; the template takes over where an answer can't be used.",
            packages=("torch", "transformers", "tokenizers", "safetensors", "PIL", "jinja2"),
            memory_gb=18.0,
            gpu_gb=11.0,
        ),
    },
    "train": {
        "native": Backend(
            "bglora.backends.train.native",
            "Trains the LoRA in this program.",
            packages=(*TORCH, "peft"),
            weights=("mini",),
            memory_gb=2.0,
        ),
        "kohya": Backend(
            "bglora.backends.train.kohya",
            "Trains by kohya's sd-scripts, or writes and checks its configurations.",
        ),
    },
    "paint": {
        "diffusers": Backend(
            "bglora.backends.paint.diffusers",
            "Paints pictures with the base model and LoRAs, through diffusers.",
            packages=(*TORCH, "peft"),
            weights=("mini",),
            memory_gb=2.0,
        ),
    },
}


@cache
def known(role: str) -> dict[str, Backend]:
    """All backends of a role, those of other packages included."""
    found = dict(REGISTRY[role])
    for point in entry_points(group=f"bglora.{role}"):
        if point.name not in found:
            package = point.dist.name if point.dist else point.value
            found[point.name] = Backend(point.value, f"From the package {package}.")
    return found


def unread(role: str, names: Collection[str]) -> set[str]:
    """Settings of the role's table that are there for other backends than these; none if one is another package's."""
    own = REGISTRY[role]
    if any(name not in own for name in names):
        return set()
    read = {key for name in names for key in own[name].reads}
    return {key for backend in own.values() for key in backend.reads} - read


def find(role: str, name: str) -> Backend:
    """The entry of a backend; a `UserError` names those there are."""
    backends = known(role)
    if name not in backends:
        raise UserError(
            f"There is no {role} backend {name!r}.",
            where=f"{role} backends: {', '.join(backends)}",
            cure="Choose one of these in project.toml; `bglora doctor` says what each needs.",
        )
    return backends[name]


def module(role: str, name: str) -> ModuleType:
    """A backend's module; a `MachineError` says what is missing and how to get it."""
    backend = find(role, name)
    missing = backend.missing()
    if missing:
        raise MachineError(
            f"The {role} backend {name} needs packages that are not here: {', '.join(missing)}.",
            where=f"{role} backend {name}",
            cure=backend.mend(),
        )
    return import_module(backend.module)


def names_of_weights(role: str, name: str, settings: Any) -> list[tuple[str, str]]:
    """The weights that a backend reads, with the setting that names them: `[("inpaint.lama", "big-lama")]`.

    `settings` is the table of its role. Empty values name nothing.

    Raises:
        UserError: a setting names what the backend doesn't know.
    """
    backend = find(role, name)
    found = import_module(backend.module)
    if hasattr(found, "names_of_weights"):
        named: Mapping[str, str | Sequence[str]] = found.names_of_weights(settings)
    else:
        named = {key: getattr(settings, key) for key in backend.models}
    each = ((key, (value,) if isinstance(value, str) else value) for key, value in named.items())
    return [(f"{TABLES[role]}.{key}", one) for key, values in each for one in values if one]


def needs(role: str, name: str, settings: Any, card_gb: float = 0.0) -> Needs:
    """Memory that a backend takes with these settings, the table of its role. Nothing is loaded to find out.

    Args:
        card_gb: memory of the card, by which some decide to save it; 0: unknown, they are taken to do so.

    Raises:
        UserError: a setting names what the backend doesn't know.
    """
    backend = find(role, name)
    found = import_module(backend.module)
    if hasattr(found, "needs"):
        own: Needs = found.needs(settings, card_gb)
        return own
    return Needs(backend.memory_gb, backend.gpu_gb)


def check(role: str, name: str, settings: Any, root: Path) -> None:
    """What a backend would refuse in every item is told before the first: a wrong folder, a file of another kind.

    Raises:
        UserError, MachineError: it can't work with these settings.
    """
    found = module(role, name)
    if hasattr(found, "check"):
        found.check(settings, root)


def load(role: str, name: str, settings: Any) -> Any:
    """The backend itself, ready to use. `settings` is the table of the stage that uses it."""
    return module(role, name).create(settings)


def identity(role: str, name: str, settings: Any = None) -> str:
    """What a backend is, with its revision: `patch/1`."""
    found = module(role, name)
    return str(found.identity(settings) if hasattr(found, "identity") else found.IDENTITY)
