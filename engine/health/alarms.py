"""When the figures of a run's health mean that something is wrong, and the one sentence that says it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ganglion.engine.health.kinds import AlarmKind
from ganglion.engine.trace import Alarm, HealthRead

# Thresholds, found with tests/benchmarks/health.py; what they separate is in the table of health.md there.
ALIKE = 0.75  # share of near-duplicates
CLOSE_TOGETHER = 0.4  # of the data's mean pairwise distance
UNCOVERED, FAITHFUL = 0.45, 0.94  # mean coverage below the one while closeness is above the other: parts are missing
NEARLY = 0.5  # and coverage now below this
UNLIKE = 0.3  # coverage and closeness below which samples are not like the data
CERTAIN = 0.98  # accuracy on real and on fake
GUESSING = 0.55  # mean of both accuracies
GONE = 1e-5  # of the longest gradient at first
NOTHING = 1e-5  # a gradient so short is lost beside the constants that methods add
GROWN = 1e3  # times what gradients and losses were at first
SMALL = 1e-3  # what gradients and losses count as where they were less
WIDE = 1e3  # scores that are further apart than this
AT_BOUND = 0.45  # share of weights
OUTSIDE = 0.3  # share of values
STILL = 1e-7  # step as a share of the weights
RATE_LEFT = 0.5  # a share of the learning rate below which small steps are meant

PATIENCE = 500  # iterations for which most alarms must hold: what has just begun to learn looks ill
READINGS = 2  # in a row, for every alarm to begin and to be over
FIRST = 5  # readings that later ones are compared with
LATELY = 3  # readings that are looked at together: those of 128 samples go up and down
RECENT = ("coverage", "scoreMargin")


class Seen(NamedTuple):
    """What a rule looks at: figures, progress, what gradients and losses were at first, and figures of late, too."""

    values: Mapping[str, float]
    progress: Mapping[str, float]
    before: Mapping[str, Sequence[float]]
    recent: Mapping[str, Sequence[float]]

    def get(self, name: str) -> float:
        """A figure; not a number where there is none, so that no comparison with it holds."""
        return self.values.get(name, math.nan)

    def of_roles(self, figure: str) -> Iterator[tuple[str, float]]:
        """A figure that every role has, with the role."""
        for name, value in self.values.items():
            role, dot, rest = name.rpartition(".")
            if dot and rest == figure:
                yield role, value

    def reverses(self) -> bool:
        """Whether what the discriminator takes for real was lately the samples, and then the real rows, or back."""
        return len({margin > 0 for margin in self.recent.get("scoreMargin", ())}) > 1

    def unlike(self) -> bool:
        """Whether the samples are not like the data; what makes none is judged by a loss that has not halved."""
        if "coverage" in self.values:
            return self.get("coverage") < UNLIKE and self.get("closeness") < UNLIKE
        first = self.before.get("loss", ())
        return bool(first) and largest(self.progress) > 0.5 * first[0]


class Rule(NamedTuple):
    """A kind of alarm: what tells it (None: nothing is wrong), and whether it must last for `PATIENCE`."""

    kind: AlarmKind
    tell: Callable[[Seen], str | None]
    patient: bool = True


def collapse(seen: Seen) -> str | None:
    alike, apart = seen.get("nearDuplicates"), seen.get("pairwiseDistance")
    if alike >= ALIKE:
        what = f"{alike:.0%} of the samples have a near-duplicate among 128"
    elif apart <= CLOSE_TOGETHER:
        what = f"the samples are only {apart:.0%} as far apart as the data"
    else:
        return None
    if stalled(seen):  # what has not begun to learn makes one kind of sample too
        return None
    return (
        f"{what}: mode collapse, the generator makes a few kinds of sample only; try strategy=R3GAN, penalty=R1 with "
        "method=ADAM learningRate=2e-4 beta1=0.5, or strategy=PacGAN"
    )


def coverage(seen: Seen) -> str | None:
    now, of_late = seen.get("coverage"), seen.recent.get("coverage", ())
    covered = now if now <= UNCOVERED or not of_late else sum(of_late) / len(of_late)
    if not (covered <= UNCOVERED and now <= NEARLY and seen.get("closeness") >= FAITHFUL) or collapse(seen):
        return None
    return (
        f"the samples are near the data, and only {covered:.0%} of the data have one near them: parts of the data are "
        "missing (partial collapse); try strategy=R3GAN or strategy=PacGAN, a larger batchSize, or more noise by "
        "generatorDim"
    )


def overpowering(seen: Seen) -> str | None:
    real, fake = seen.get("accuracyReal"), seen.get("accuracyFake")
    if not (real >= CERTAIN and fake >= CERTAIN and (seen.unlike() or collapse(seen))):
        return None
    return (
        f"the discriminator is right about {real:.0%} of the real rows and {fake:.0%} of the samples, which are not "
        "like the data: it overpowers the generator, which learns little from it; try penalty=R1, a smaller "
        "discriminator.learningRate, fewer discriminatorIterations, or instanceNoise=0.1"
    )


def blind(seen: Seen) -> str | None:
    accuracy = (seen.get("accuracyReal") + seen.get("accuracyFake")) / 2
    guesses = accuracy <= GUESSING and (seen.unlike() or collapse(seen))
    if not (guesses or (seen.reverses() and seen.unlike())) or stalled(seen):
        return None
    how = f"no better than chance ({accuracy:.0%} right)" if guesses else "now one way and now the other"
    return (
        f"the discriminator tells real rows from samples {how}, and the samples "
        "are not like the data: it is too weak, and says nothing to the generator; try a larger "
        "discriminator.learningRate, discriminatorIterations=5, a larger network, or less labelNoise and instanceNoise"
    )


def vanishing(seen: Seen) -> str | None:
    for role, gradient in seen.of_roles("gradient"):
        longest = max(seen.before.get(f"{role}.gradient", ()), default=0.0)
        if gradient <= max(NOTHING, GONE * longest) and seen.unlike():
            return (
                f"the gradient of the {role} is only {gradient:.1e} long, and the task is not learnt: it vanishes, and "
                f"the {role} no longer learns; try objective=nonsaturating or penalty=R1, another init, or a network "
                "without saturating layers"
            )
    return None


def divergence(seen: Seen) -> str | None:
    margin = abs(seen.get("scoreMargin"))
    sizes = {f"{role}.gradient": (f"the gradient of the {role}", size) for role, size in seen.of_roles("gradient")}
    for name, (what, size) in {**sizes, "loss": ("the largest loss", largest(seen.progress))}.items():
        first = max(seen.before.get(name, ()), default=0.0)
        if first and grown(size, first):
            return _diverges(f"{what} is {size:.1e}, and was {first:.1e} at first")
    if margin >= WIDE or math.isinf(margin):
        return _diverges(f"scores of real rows and of samples are {margin:.1e} apart")
    return None


def _diverges(what: str) -> str:
    return (
        f"{what}: the players drive each other away without a bound (divergence); try a smaller learningRate, a bound "
        "on the discriminator (penalty=GP, penalty=R1, spectralNorm=true or clamp), or clipNorm=1"
    )


def clipping(seen: Seen) -> str | None:
    for role, share in seen.of_roles("clipped"):
        if share >= AT_BOUND:
            return (
                f"{share:.0%} of the {role}'s weights are at the clip bound: it can be little more than one sign per "
                "weight; try a larger clamp, or strategy=WGAN_GP, which needs none"
            )
    return None


def out_of_range(seen: Seen) -> str | None:
    outside = seen.get("outOfRange")
    if not outside >= OUTSIDE:
        return None
    return (
        f"{outside:.0%} of the samples' values lie far outside of the data's range: the generator has left the data; "
        "try a smaller generator.learningRate, penalty=R1, or a generator that ends in Tanh"
    )


def stalled(seen: Seen) -> str | None:
    for role, step in seen.of_roles("update"):
        if step <= STILL and seen.get("rateLeft") >= RATE_LEFT and not vanishing(seen):
            return (
                f"an update moves the {role}'s weights by less than {STILL:.0e} of their size: it hardly learns; try a "
                f"larger {role}.learningRate, or method=ADAM"
            )
    return None


RULES = (  # causes before what follows from them: the alarms stand in this order
    Rule("stalled", stalled),
    Rule("divergence", divergence, patient=False),
    Rule("clipping", clipping),
    Rule("overpowering", overpowering),
    Rule("vanishing", vanishing),
    Rule("blind", blind),
    Rule("range", out_of_range),
    Rule("collapse", collapse),
    Rule("coverage", coverage),
)


@dataclass
class Course:
    """How one alarm goes: since when what it tells holds, how often in a row it did or did not, and its sentence."""

    since: int = 0
    held: int = 0
    missed: int = 0
    sentence: str = ""  # as it was when the alarm began; empty while there is none

    def take(self, told: str | None, iteration: int, patience: int) -> None:
        """Begin or end the alarm where what was told says so often enough."""
        if told is None:
            self.held, self.missed = 0, self.missed + 1
            self.sentence = "" if self.missed >= READINGS else self.sentence
            return
        self.since = self.since if self.held else iteration
        self.held, self.missed = self.held + 1, 0
        if not self.sentence and self.held >= READINGS and iteration - self.since >= patience:
            self.sentence = told


class Diagnosis:
    """Follows the readings of one run: an alarm begins when it holds for long enough, and ends likewise."""

    def __init__(self) -> None:
        self.courses = {rule.kind: Course() for rule in RULES}
        self.before: dict[str, list[float]] = {}
        self.recent: dict[str, list[float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of earlier readings."""
        courses = {kind: vars(course).copy() for kind, course in self.courses.items()}
        before, recent = ({name: list(values) for name, values in each.items()} for each in (self.before, self.recent))
        return {"courses": courses, "before": before, "recent": recent}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; a kind that was not there then begins anew."""
        for kind, course in state["courses"].items():
            if kind in self.courses:
                self.courses[kind] = Course(**course)
        self.before = {name: [float(value) for value in values] for name, values in state["before"].items()}
        self.recent = {name: [float(value) for value in values] for name, values in state.get("recent", {}).items()}

    def read(self, iteration: int, values: Mapping[str, float], progress: Mapping[str, float]) -> HealthRead:
        """Take in one reading: its figures, and the alarms that there are now."""
        for name in RECENT:
            if name in values:
                self.recent[name] = [*self.recent.get(name, ()), values[name]][-LATELY:]
        seen = Seen(values, progress, self.before, self.recent)
        for rule in RULES:
            self.courses[rule.kind].take(rule.tell(seen), iteration, PATIENCE if rule.patient else 0)
        self._remember(seen)
        alarms = [Alarm(kind, course.sentence) for kind, course in self.courses.items() if course.sentence]
        return HealthRead(iteration, dict(values), tuple(alarms))

    def _remember(self, seen: Seen) -> None:
        figures = {f"{role}.gradient": value for role, value in seen.of_roles("gradient")}
        for name, value in {**figures, "loss": largest(seen.progress)}.items():
            kept = self.before.setdefault(name, [])
            if len(kept) < FIRST and math.isfinite(value) and not (kept and grown(value, max(kept))):
                kept.append(value)


def grown(value: float, before: float) -> bool:
    """Whether a gradient or a loss is that much larger than before; one that is not a number is."""
    return not value <= GROWN * max(before, SMALL)


def largest(progress: Mapping[str, float]) -> float:
    """The largest number that an iteration reported, whatever its sign; not a number where there is none."""
    return max((abs(value) for value in progress.values()), default=math.nan)
