"""May it run now? Places, tokens, and a fair line for who has to wait."""

from gateway.admission.admission import Admission
from gateway.admission.cost import prompt_bound
from gateway.admission.permit import Permit
from gateway.admission.pressure import MemoryPressure
from gateway.admission.queue import ModelQueue
from gateway.admission.settings import AdmissionSettings
from gateway.admission.waiter import QueuePosition, QueueTimeout, WaitLimits

__all__ = [
    "Admission",
    "AdmissionSettings",
    "MemoryPressure",
    "ModelQueue",
    "Permit",
    "QueuePosition",
    "QueueTimeout",
    "WaitLimits",
    "prompt_bound",
]
