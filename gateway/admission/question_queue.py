"""The queue of the questions about one model: as fair and as bounded as that of its generations."""

from gateway.admission.queue import ModelQueue
from gateway.admission.settings import AdmissionSettings
from gateway.engine import Capability, ModelCard

OF_MANY_TEXTS = frozenset({Capability.EMBEDDING, Capability.SCORE, Capability.CLASSIFY})


class QuestionQueue(ModelQueue):
    """Admits questions in the order of the fair queue; they take no place in the batch, and no cache.

    A plugin reads one prompt after another as a rule. A few places keep it busy, and the order is decided here. Vectors
    and scores are made of many texts at once, for as many requests as the model has places.
    """

    def configure(self, card: ModelCard, settings: AdmissionSettings) -> None:
        """Go by `card` and `settings` from now on."""
        # No engine puts generations aside for the sake of a question.
        self.card, self.batch, self._settings = card, "", settings
        computes = OF_MANY_TEXTS & card.capabilities
        places = max(settings.questions, card.places) if computes else settings.questions
        self.places.resize(places, 0, settings.spare_places)
        self.waiters.capacity = settings.waiting_questions
