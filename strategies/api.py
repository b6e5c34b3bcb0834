"""The public names for authors of two-player strategies, objectives and penalties."""

from ganglion.strategies.adversarial import AdversarialSettings, AdversarialStrategy, score_of
from ganglion.strategies.objectives import cross_entropy
from ganglion.strategies.penalties import input_gradient
from ganglion.strategies.schedule import Phase, Schedule, Turn, parse_schedule

__all__ = [
    "AdversarialSettings",
    "AdversarialStrategy",
    "Phase",
    "Schedule",
    "Turn",
    "cross_entropy",
    "input_gradient",
    "parse_schedule",
    "score_of",
]
