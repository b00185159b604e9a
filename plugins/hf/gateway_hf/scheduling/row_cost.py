"""What one more row costs in a step of answers, by what steps took: the price of a guess."""

# A step without rows is thought to take as long as so many rows, until steps of several sizes were seen.
_ROWS = 6.0
# How much of the means of what was seen counts at the next step.
_KEEP = 0.98
# How much what was thought at first counts beside what was seen, and how much of this counts at most: squares of rows.
_PRIOR = 50.0
_MOST = 2000.0
# Of the seconds that a step without rows was thought to take at first, it takes so much at least: where other programs
# compute while many answers decode, and not while few do, rows seem to cost all.
_LEAST = 0.5
# A step that took so many times as long as was thought at first of its size says that the machine was busy.
_LONG = 2.0


class RowCost:
    """Learns `seconds = base + row * rows` of steps that read no prompts, by least squares.

    Earlier steps of several sizes fade as later ones say more of a row; steps of one size say nothing of it.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._rows = 0.0
        self._seconds = 0.0
        self._spread = 0.0  # the sum of squares of rows around their mean
        self._together = 0.0  # and of their products with seconds around theirs

    def learn(self, rows: int, seconds: float) -> None:
        """Take in what a step of so many rows took."""
        if self._weight:
            seconds = min(seconds, _LONG * self._seconds * (_ROWS + rows) / (_ROWS + self._rows))
        self._weight = _KEEP * self._weight + 1
        off = rows - self._rows
        self._rows += off / self._weight
        self._seconds += (seconds - self._seconds) / self._weight
        self._spread += off * (rows - self._rows)
        self._together += off * (seconds - self._seconds)
        if self._spread > _MOST:
            self._together *= _MOST / self._spread
            self._spread = _MOST

    def price(self, answers: int, seconds: float = 0.0) -> float:
        """Return what a row more costs beside so many answers: the part of a token that the step gives in its time.

        A guess is worth it if it comes true more often; one that is made takes so many seconds besides. It is 0 where
        rows cost nothing, and below 1 but for what it takes to make.
        """
        if not self._weight:
            return answers / (_ROWS + answers)
        step = self._expected(answers)
        return (self._row + seconds) * answers / step if step else 0.0

    @property
    def _row(self) -> float:
        """Return the seconds of a row; a step without rows takes half as long as was thought at first, or longer."""
        thought = self._seconds / (_ROWS + self._rows)
        row = (self._together + _PRIOR * thought) / (self._spread + _PRIOR)
        return min(max(0.0, row), (self._seconds - _LEAST * _ROWS * thought) / self._rows)

    def _expected(self, rows: int) -> float:
        """Return the seconds of a step of so many rows."""
        return self._seconds + self._row * (rows - self._rows)
