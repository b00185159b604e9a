"""How Ray says that something went wrong, in the gateway's words."""

import asyncio

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from gateway.engine import EngineError, Overloaded, Unavailable, failure_of, to_error

# All that Ray and Ray Serve raise, and a call that was ended from elsewhere.
FAULTS = (RayError, RayServeException, asyncio.CancelledError)


class ReplicaLost(Unavailable):
    """The replica ended, or cannot be reached; another may answer."""


def to_engine_error(error: BaseException) -> EngineError:
    """Return our error; `ReplicaLost` where another replica may answer. A cancellation of the caller's own is raised.

    A replica returns what its engine raises, so an error that was raised in it is a fault of this plugin or of Ray.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise error
        return ReplicaLost("the replica gave up the request")
    if isinstance(error, BackPressureError):
        return Overloaded("every replica has as much to do as it may have")
    cause = getattr(error, "cause", None)
    if isinstance(error, RayTaskError) and not isinstance(error, RayServeException) and not isinstance(cause, RayError):
        return to_error(failure_of(error))
    return ReplicaLost("the replica ended, or cannot be reached")
