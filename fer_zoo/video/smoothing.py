"""Labels that do not flicker: probabilities smoothed in time, and a label that holds on."""

import math
from collections.abc import Mapping

from fer_zoo.errors import ArgumentError
from fer_zoo.transforms.augment import is_number


class Smoother:
    """Probabilities of each track, smoothed over time.

    The smoothed probabilities are the mean of those that were seen, where one that is a time
    constant old counts 37 % of the latest. The label changes once another class is by `hold` more
    probable than the one that is shown.

    Args:
        seconds: the time constant; 0 for none.
        hold: from 0 to 1; 0 for the most probable class.

    Example:
        >>> smooth = Smoother(seconds=0.4, hold=0.1)
        >>> smooth(0, 0.0, {"happy": 1.0, "sad": 0.0})
        ('happy', {'happy': 1.0, 'sad': 0.0})
        >>> label, shares = smooth(0, 0.04, {"happy": 0.0, "sad": 1.0})
        >>> label, round(shares["sad"], 2)
        ('happy', 0.52)
    """

    def __init__(self, seconds: float = 0.4, hold: float = 0.1) -> None:
        if not is_number(seconds) or seconds < 0:
            raise ArgumentError(f"smooth is a number of seconds from 0, got {seconds!r:.80}")
        if not is_number(hold) or not 0 <= hold <= 1:
            raise ArgumentError(f"hold is a number from 0 to 1, got {hold!r:.80}")
        self.seconds, self.hold = float(seconds), float(hold)
        self._known: dict[int, tuple[float, float, dict[str, float], str]] = {}

    def __call__(
        self, track: int, time: float, probabilities: Mapping[str, float]
    ) -> tuple[str, dict[str, float]]:
        """Return the label to show and the smoothed probabilities."""
        if track not in self._known or not self.seconds:
            shares, weight = dict(probabilities), 1.0
        else:
            before, held, old, _ = self._known[track]
            kept = held * math.exp(-max(time - before, 0.0) / self.seconds)
            weight = kept + 1
            shares = {k: (kept * old[k] + p) / weight for k, p in probabilities.items()}
        label = max(shares, key=shares.__getitem__)
        if track in self._known:
            shown = self._known[track][3]
            label = label if shares[label] > shares[shown] + self.hold else shown
        self._known[track] = (time, weight, shares, label)
        return label, shares

    def forget(self, tracks: set[int]) -> None:
        """Keep only these tracks: the others have ended."""
        self._known = {k: v for k, v in self._known.items() if k in tracks}
