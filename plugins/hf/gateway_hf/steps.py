"""How the engine shows that it gets on, while no letter comes of it yet."""


class StepCount:
    """Counts what is done, in pieces of any size: a layer of a pass, a prompt that was read.

    Any thread may count. Where two do so at once a piece may be lost, but the count moves all the same.
    """

    def __init__(self) -> None:
        self.count = 0

    def tick(self) -> None:
        """Count one piece."""
        self.count += 1
