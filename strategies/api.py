"""The public names for authors of two-player strategies, objectives and penalties."""

from ganglion.strategies.adversarial import AdversarialStrategy, score_of, shown_rows
from ganglion.strategies.charges import Charge, Drawn, exposed
from ganglion.strategies.objectives import cross_entropy
from ganglion.strategies.penalties import GradientPenalty, input_gradient
from ganglion.strategies.playing import AdversarialSettings, PlayerSettings
from ganglion.strategies.schedule import Phase, Schedule, Turn, parse_schedule

__all__ = [
    "AdversarialSettings",
    "AdversarialStrategy",
    "Charge",
    "Drawn",
    "GradientPenalty",
    "Phase",
    "PlayerSettings",
    "Schedule",
    "Turn",
    "cross_entropy",
    "exposed",
    "input_gradient",
    "parse_schedule",
    "score_of",
    "shown_rows",
]
