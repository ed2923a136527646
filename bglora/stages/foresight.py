"""What stages would stumble on after hours, looked at before they start: films, weights and their terms. Cheap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bglora.errors import BgloraError, MachineError, UserError

if TYPE_CHECKING:
    from bglora.backends.weights import Weights
    from bglora.settings import Settings

ALSO_EMBED = ("caption", "test")
"""Stages that compare pictures with the backend of `cluster` beside their own."""
BASE = "train.base"
PAINTERS = {"fill", "train", "paint"}
"""Roles whose backends may work with the same diffusion models."""


@dataclass(frozen=True)
class Demand:
    """Weights that a stage will read.

    Attributes:
        stage: its name.
        backend: role and name of the backend that reads them: `fill lama`.
        setting: the key that names them: `inpaint.lama`.
        name: as in the settings; paths absolute.
    """

    stage: str
    backend: str
    setting: str
    name: str

    @property
    def weights(self) -> Weights | None:
        """What the name stands for; None for a path."""
        from bglora.backends import weights

        return weights.entry(self.name)


def backends_of(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    """Stage to role and name of the backends that it may work with; all stay loaded, so they add up."""
    from bglora.stages import appearances
    from bglora.stages.engines import chain
    from bglora.stages.followed import detectors_of
    from bglora.stages.leaks import watchers_of

    return {
        "segment": [("masks", settings.segment.backend), *detectors_of(settings.segment)],
        "inpaint": [*(("fill", name) for name in chain(settings.inpaint)), *watchers_of(settings)],
        "cluster": [("embed", settings.cluster.backend)],
        "caption": [("caption", settings.caption.backend)],
        "train": [("train", settings.train.backend)],
        "test": [("paint", "diffusers"), *appearances.detectors_of(settings)],
        "compose": [("paint", "diffusers")],
    }


def demands(root: Path, settings: Settings, stages: Sequence[str] = ()) -> list[Demand]:
    """The weights that stages will read with these settings, each once; of all stages if none is named.

    Raises:
        UserError: a setting names what its backend doesn't know, or a folder of the project by a relative path.
    """
    found: dict[tuple[str, str], Demand] = {}
    chosen = backends_of(settings)
    for stage in stages or chosen:
        also = chosen["cluster"] if stage in ALSO_EMBED else []
        for role, name in [*chosen.get(stage, []), *also]:
            for one in _demanded(root, settings, stage, role, name):
                found.setdefault((one.setting, one.name), one)
    return list(found.values())


def _demanded(root: Path, settings: Settings, stage: str, role: str, name: str) -> Iterator[Demand]:
    from bglora import backends
    from bglora.backends.weights import known, relative

    table = getattr(located(root, settings), backends.TABLES[role])
    for setting, weights in backends.names_of_weights(role, name, table):
        one = Demand(stage, f"{role} {name}", setting, weights)
        if one.weights and one.weights.name not in known() and (root / weights).exists():
            # `models/brushnet` could be a repository on the hub as well
            raise relative(weights, f"{setting} = {weights}, which is in {root}")
        yield one


def located(root: Path, settings: Settings) -> Settings:
    """The settings with a base that is written as a path relative to the project made absolute."""
    from bglora.stages.train import located_base

    train = settings.train.model_copy(update={"base": located_base(root, settings.train.base)})
    return settings.model_copy(update={"train": train})


def missing(wanted: Sequence[Demand]) -> list[Demand]:
    """Those of the weights that could be fetched and are not on this machine.

    Raises:
        UserError: a path at which nothing is, a file that can't be weights, weights of another stage, or a name that
            nobody knows.
    """
    from bglora.backends import soundness, weights

    found = []
    for one in wanted:
        _check_kind(one)
        try:
            path = weights.find(one.name, setting=one.setting)
        except MachineError:
            found.append(one)
            continue
        except UserError as error:
            raise (_no_base(one) if one.setting == BASE else error) from error
        if one.weights is None:  # what was fetched was checked by its digest
            soundness.check(path, setting=one.setting)
    return found


def _check_kind(one: Demand) -> None:
    """Raises `UserError` for weights that belong to backends of another role."""
    known, role = one.weights, one.backend.partition(" ")[0]
    if known is None or not known.role or known.role == role or {known.role, role} <= PAINTERS:
        return
    from bglora.backends import TABLES

    raise UserError(
        f"{one.name} is for {TABLES[known.role]}: {known.about.rstrip('.')}.",
        where=f"{one.setting} = {one.name}",
        cure=f"Choose other weights for {one.setting}; `bglora models` says what each is for.",
    )


def check_weights(root: Path, settings: Settings, stages: Sequence[str] = ()) -> None:
    """Refuses stages that would not find their weights, or whose terms forbid what the project is for.

    Raises:
        UserError: see `missing` and `check_terms`.
        MachineError: weights that are not on this machine; the cure is the command that fetches them all.
    """
    wanted = demands(root, settings, stages)
    check_terms(settings, wanted)
    absent = missing(wanted)
    if absent:
        raise absence(absent)


def absence(absent: Sequence[Demand]) -> BgloraError:
    """The error for weights that are not on this machine."""
    names = list(dict.fromkeys(described(one.weights) for one in absent if one.weights))
    pulls = list(dict.fromkeys(one.weights.name for one in absent if one.weights))
    settings = list(dict.fromkeys(f"{one.setting} = {one.name}" for one in absent))
    size = sum({one.weights.name: one.weights.bytes for one in absent if one.weights}.values())
    total = f"; {size / 1e9:.1f} GB in all" if len(pulls) > 1 and size else ""
    return MachineError(
        f"Not on this machine: {', '.join(names)}{total}.",
        where="; ".join(settings),
        cure=f"bglora models pull {' '.join(pulls)}; or let runs fetch: bglora set project.download yes",
    )


def described(one: Weights) -> str:
    """`big-lama (0.21 GB, Apache-2.0)`."""
    facts = [f"{one.bytes / 1e9:.2g} GB" if one.bytes < 1e9 else f"{one.bytes / 1e9:.1f} GB"] if one.bytes else []
    facts += [one.license or "terms unknown here"]
    return f"{one.name} ({', '.join(facts)})"


def check_terms(settings: Settings, wanted: Sequence[Demand]) -> None:
    """Refuses weights whose terms forbid commercial use, in a project that is said to be commercial."""
    for one in wanted if settings.project.commercial else ():
        if one.weights and one.weights.commercial is False:
            raise UserError(
                f"{one.weights.name} may not be used commercially: {one.weights.license}, {one.weights.term}.",
                where=f"{one.setting} = {one.name}, with project.commercial = true",
                cure=f"Choose another model in {one.setting}; `bglora models` lists them with their terms.",
            )


def unsettled_terms(settings: Settings, wanted: Sequence[Demand]) -> list[str]:
    """For a project that is said to be commercial: a sentence for each model of which nobody states terms."""
    found = {one.weights.name: one.weights for one in wanted if one.weights} if settings.project.commercial else {}
    return [
        f"Whether {one.name} may be used commercially is not known: {one.license or 'terms unknown here'}. "
        f"Look at {one.license_url or f'its page on the hub, {one.repo}'}."
        for one in found.values()
        if one.commercial is None
    ]


def _no_base(one: Demand) -> UserError:
    from bglora.training.base import PICK_ONE

    return UserError("There is no base model at this path.", where=f"{BASE} = {one.name}", cure=PICK_ONE)


def check_film(path: Path) -> None:
    """Raises `UserError` if the file holds no video."""
    from bglora.film.video import VideoFile

    VideoFile(path).close()


def source_names(root: Path, settings: Settings) -> list[str]:
    """Names of the films and folders that `ingest` would read. Raises `UserError` if there are none."""
    from bglora.film.sources import find_sources

    return [one.name for one in find_sources(root, settings.sources.films, settings.sources.layers)]
