"""May it run now? Places, tokens, and a fair line for who has to wait."""

from gateway.admission.admission import Admission
from gateway.admission.cost import prompt_bound
from gateway.admission.permit import Permit
from gateway.admission.pressure import MemoryPressure
from gateway.admission.queue import Door, Terms
from gateway.admission.waiter import Patience, QueueTimeout, Standing
from gateway.flow.breaker import Attempt, Breaker
from gateway.flow.bucket import Bucket

__all__ = [
    "Admission",
    "Attempt",
    "Breaker",
    "Bucket",
    "Door",
    "MemoryPressure",
    "Patience",
    "Permit",
    "QueueTimeout",
    "Standing",
    "Terms",
    "prompt_bound",
]
