"""Admission: a place and its tokens for each generation, and a fair queue of requests that wait for one."""

from gateway.admission.admission import Admission
from gateway.admission.cost import pairs_bound, prompt_bound, reading_cost
from gateway.admission.permit import Permit
from gateway.admission.pressure import MemoryPressure
from gateway.admission.question_queue import QuestionQueue
from gateway.admission.queue import ModelQueue
from gateway.admission.settings import AdmissionSettings
from gateway.admission.standby import NoRoom
from gateway.admission.waiter import Foresight, QueuePosition, QueueTimeout, Standby, WaitLimits

__all__ = [
    "Admission",
    "AdmissionSettings",
    "Foresight",
    "MemoryPressure",
    "ModelQueue",
    "NoRoom",
    "Permit",
    "QuestionQueue",
    "QueuePosition",
    "QueueTimeout",
    "Standby",
    "WaitLimits",
    "pairs_bound",
    "prompt_bound",
    "reading_cost",
]
