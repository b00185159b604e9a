"""May it run now? Places, tokens, and a fair line for who has to wait."""

from gateway.admission.admission import Admission
from gateway.admission.cost import prompt_bound
from gateway.admission.permit import Permit
from gateway.admission.pressure import MemoryPressure
from gateway.admission.queue import ModelQueue, QueueSettings
from gateway.admission.waiter import QueuePosition, QueueTimeout, WaitLimits
from gateway.flow.breaker import Attempt, Breaker
from gateway.flow.bucket import TokenBucket

__all__ = [
    "Admission",
    "Attempt",
    "Breaker",
    "MemoryPressure",
    "ModelQueue",
    "Permit",
    "QueuePosition",
    "QueueSettings",
    "QueueTimeout",
    "TokenBucket",
    "WaitLimits",
    "prompt_bound",
]
