"""Variables that a library reads while it is imported, before any message could name them: taken away first.

loguru reads `LOGURU_…` there, and raises at a wrong value. They are its defaults for sinks; every sink here has its own
terms, so they mean nothing to the gateway.
"""

import os

_FOREIGN = "LOGURU_"

for _name in [name for name in os.environ if name.startswith(_FOREIGN)]:
    del os.environ[_name]
