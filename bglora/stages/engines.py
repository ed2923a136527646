"""Which engine fills a hole: tried in order, each rated on withheld pixels of this very plate, until one is good.

`[inpaint] engine` is tried first (or the one that `routes` names for the share of the frame that is missing), then
those of `fallback`; each with as many seeds as `tries` says. With `rate_all` every engine is rated on every hole and
the best one fills; from these ratings `routing_table` tells which engine is best by share missing on this film.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.stages.prompts import negative_of, prompt_of

if TYPE_CHECKING:
    import numpy as np

    from bglora.engine.stage import Row, Tools
    from bglora.settings.plates import InpaintSettings
    from bglora.vision.rating import FillScores

SMALLEST_RATED = 0.002
"""Share of the frame from which a guess is rated at all."""
BINS = (0.01, 0.05, 0.15, 0.35, 1.0)
"""Upper ends of the shares of the frame by which the table is split."""


def chain(settings: InpaintSettings | Mapping[str, Any], share: float | None = None) -> list[str]:
    """Names of the engines in the order in which they are tried; all that may be, if `share` is None.

    Args:
        share: share of the frame that is missing, 0 to 1.
    """
    rule = settings if isinstance(settings, Mapping) else settings.model_dump(mode="json")
    ways = sorted((float(below), name) for below, name in rule["routes"].items())
    if share is None:
        first = [*(name for _, name in ways), rule["engine"]]
    else:
        first = [next((name for below, name in ways if share < below), rule["engine"])]
    named = [*first, *rule["fallback"]]
    return list(dict.fromkeys(one for name in named for one in _members(name, rule, share)))


def _members(name: str, rule: Mapping[str, Any], share: float | None) -> list[str]:
    """`hybrid` is two engines, each tried and rated under its own name; every other engine is itself."""
    from bglora.backends.fill import hybrid

    return hybrid.order(rule["simple_below"], share) if name == "hybrid" else [name]


ONLY_SPEED = ("batch", "low_memory", "lama_compile")
"""Settings that change no result, but for the last bits of a sum."""


def rule_of(
    settings: InpaintSettings, shot: str, scene: Mapping[str, str] | None, names: Iterable[str]
) -> dict[str, Any]:
    """The table [inpaint] as JSON values as far as a shot's plates depend on it, with the words for this shot.

    Args:
        scene: of the shot, as `prompts.prompt_of` takes it. names: of the film's characters.
    """
    rule = settings.model_dump(mode="json")
    named = {rule["engine"], *rule["routes"].values(), *rule["fallback"]}
    left_out = backends.unread("fill", {*named, *chain(rule)}) | {"prompts", *ONLY_SPEED}
    rule["prompt"], rule["negative_prompt"] = prompt_of(settings, shot, scene), negative_of(settings, names)
    return {key: value for key, value in rule.items() if key not in left_out}


def identity(settings: InpaintSettings) -> str:
    """What all engines that may be used are, with their revisions."""
    return "+".join(backends.identity("fill", name, settings) for name in chain(settings))


def load(name: str, rule: Mapping[str, Any], tools: Tools) -> Any:
    """The engine itself, loaded when it is first tried; it stays while memory lasts.

    Args:
        rule: the table [inpaint], as far as `rule_of` gives it; the rest is the project's own.
    """
    from bglora.backends.resident import KEY, Resident
    from bglora.settings.plates import InpaintSettings

    whole = tools.settings.inpaint.model_dump(mode="json")
    resident: Resident = tools.once(KEY, Resident)
    return resident.get("fill", name, InpaintSettings(**{**whole, **rule}))


@dataclass(frozen=True)
class Trial:
    """One engine with one seed, and how it did on withheld pixels."""

    engine: str
    seed: int
    scores: FillScores


@dataclass(frozen=True)
class Choice:
    """Who filled a hole, and why.

    Attributes:
        share: share of the frame that the hole takes.
        trials: everything that was tried; empty where nothing could be rated.
        scores: those of the chosen one; None where nothing could be rated.
        good: the scores reach what the settings ask for, or nothing could be rated.
    """

    engine: str
    seed: int
    share: float
    trials: tuple[Trial, ...] = ()
    scores: FillScores | None = None
    good: bool = True

    def prompt(self, rule: Mapping[str, Any]) -> str:
        """The words that were used; empty where the engine reads none."""
        return str(rule["prompt"]) if "prompt" in backends.find("fill", self.engine).reads else ""

    def rated(self) -> list[dict[str, Any]]:
        """The best trial of each engine, as JSON values."""
        best: dict[str, Trial] = {}
        for trial in self.trials:
            if trial.engine not in best or trial.scores.rank > best[trial.engine].scores.rank:
                best[trial.engine] = trial
        return [
            {"engine": name, "seed": trial.seed, "share": round(self.share, 5)} | rounded(trial.scores)
            for name, trial in best.items()
        ]


@dataclass
class Chooser:
    """Fills the holes of one shot.

    Attributes:
        rule: the table [inpaint] as JSON values.
        choice: who filled the last hole that `fill` was asked for; None before the first.
    """

    rule: Mapping[str, Any]
    tools: Tools
    likely: np.ndarray | None = None
    choice: Choice | None = None
    made: list[Choice] = field(default_factory=list)

    def fill(self, picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """The picture (uint8 (H, W, 3)) with the hole (bool (H, W)) filled by the engine that is chosen for it."""
        self.choice = self._choose(picture, hole)
        self.made.append(self.choice)
        return self.run(self.choice.engine, self.choice.seed, picture, hole)

    def run(self, engine: str, seed: int, picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """The picture filled by one engine; known pixels stay bit-identical whatever the engine does to them.

        The engine never sees what is in the hole: a character, where nothing was recovered.
        """
        import numpy as np

        from bglora.vision.rating import HIDDEN

        hidden = np.where(hole[..., None], HIDDEN, picture).astype(np.uint8)
        filled = load(engine, self.rule, self.tools).fill(hidden, hole, seed=seed, prompt=self.rule.get("prompt", ""))
        return np.where(hole[..., None], filled, picture).astype(np.uint8)

    def main_choice(self) -> Choice | None:
        """The choice for the largest hole so far: what most plates of the shot show of guesses."""
        return max(self.made, key=lambda made: made.share, default=None)

    def _choose(self, picture: np.ndarray, hole: np.ndarray) -> Choice:
        from bglora.vision.rating import rate_fill

        share, seed = float(hole.mean()), self.tools.seed % 2**31
        names = chain(self.rule, share)
        trials: list[Trial] = []
        if share < SMALLEST_RATED:
            return Choice(names[0], seed, share)
        for name in names:
            for attempt in range(self.rule["tries"]):
                scores = rate_fill(picture, hole, partial(self.run, name, seed + attempt), self.likely)
                if scores is None:
                    return Choice(names[0], seed, share)
                trials.append(Trial(name, seed + attempt, scores))
                if good_enough(scores, self.rule):
                    break
            if not self.rule["rate_all"] and good_enough(trials[-1].scores, self.rule):
                break
        best = max(trials, key=lambda trial: (good_enough(trial.scores, self.rule), trial.scores.rank))
        return Choice(best.engine, best.seed, share, tuple(trials), best.scores, good_enough(best.scores, self.rule))


def good_enough(scores: FillScores, rule: Mapping[str, Any]) -> bool:
    """True if a fill reaches what the settings ask for, over the whole plate and inside the hole."""
    return not shortfall(scores, rule)


def shortfall(scores: FillScores, rule: Mapping[str, Any]) -> str:
    """What a fill misses, in words; empty if nothing."""
    if scores.plate_psnr_db < rule["psnr_db"] or scores.plate_ssim < rule["ssim"]:
        return (
            f"{scores.plate_psnr_db:.1f} dB and SSIM {scores.plate_ssim:.2f} over the plate where it is checked, "
            f"{rule['psnr_db']:.1f} dB and {rule['ssim']:.2f} needed"
        )
    least_db, least_ssim = scores.flat_psnr_db + rule["hole_gain_db"], scores.flat_ssim + rule["hole_gain_ssim"]
    if scores.hole_psnr_db < least_db or scores.hole_ssim < least_ssim:
        return (
            f"{scores.hole_psnr_db:.1f} dB and SSIM {scores.hole_ssim:.2f} inside the hole where it is checked, "
            f"{least_db:.1f} dB and {least_ssim:.2f} needed there"
        )
    return ""


def rounded(scores: FillScores) -> dict[str, float]:
    """Scores as JSON values."""
    return {key: round(value, 4) for key, value in asdict(scores).items()}


def routing_table(rated: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Which engine is best by the share of the frame that is missing.

    Args:
        rated: per hole what `Choice.rated` gave.
    Returns:
        JSON values: `{"bins": [{"from", "below", "best", "engines": {name: {"holes", "hole_psnr_db", "hole_ssim",
        "rank"}}}]}`, bins without a rating left out. `best` has the highest mean rank over the holes that all
        engines of the bin were rated on; empty where there is no such hole or only one engine.
    """
    bins: list[dict[str, Any]] = []
    holes = [[row for row in hole if "hole_psnr_db" in row] for hole in rated]
    start = 0.0
    for end in BINS:
        inside = [hole for hole in holes if hole and start <= hole[0]["share"] and (hole[0]["share"] < end or end == 1)]
        if inside:
            bins.append({"from": start, "below": end, "best": _best(inside), "engines": _means(inside)})
        start = end
    return {"bins": bins}


def routes(table: Mapping[str, Any]) -> dict[str, str]:
    """The setting `inpaint.routes` that a table suggests; empty where no bin knows a best engine."""
    joined: list[tuple[float, str]] = []
    for found in table["bins"]:
        if not found["best"]:
            continue
        if joined and joined[-1][1] == found["best"]:
            joined.pop()
        joined.append((found["below"], found["best"]))
    last = len(joined) - 1
    return {"1" if k == last else f"{below:g}": name for k, (below, name) in enumerate(joined)}


def table_file(rows: Iterable[Row]) -> bytes:
    """plates/engines.json: the table of everything that was rated in this project."""
    table = routing_table([row.record["rated"] for row in rows if row.record.get("rated")])
    return (json.dumps(table, indent=1, sort_keys=True) + "\n").encode()


def _rank(row: Mapping[str, Any]) -> float:
    return float(row["hole_ssim"]) + float(row["hole_psnr_db"]) / 40


def _best(holes: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    names = {row["engine"] for hole in holes for row in hole}
    complete = [hole for hole in holes if len(hole) == len(names)]
    if len(names) < 2 or not complete:
        return ""
    means = {name: fmean(_rank(row) for hole in complete for row in hole if row["engine"] == name) for name in names}
    return max(sorted(means), key=means.__getitem__)


def _means(holes: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted({row["engine"] for hole in holes for row in hole}):
        own = [row for hole in holes for row in hole if row["engine"] == name]
        found[name] = {"holes": len(own), "rank": round(fmean(map(_rank, own)), 4)}
        found[name] |= {key: round(fmean(row[key] for row in own), 4) for key in ("hole_psnr_db", "hole_ssim")}
    return found
