"""`python -m gateway` does what `llm-gateway` does."""

import os
import sys

# Python puts the current folder first on the path. It stays only where the gateway itself was found there.
_folder = os.getcwd()  # noqa: PTH109 - pathlib would be looked for there
if not sys.flags.safe_path and sys.path[0] in ("", _folder) and __file__ != f"{_folder}/gateway/__main__.py":
    del sys.path[0]

from gateway.cli.main import main  # noqa: E402 - found by the path as it is now

sys.exit(main())
