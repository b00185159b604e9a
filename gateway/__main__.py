"""`python -m gateway` does what `llm-gateway` does."""

import sys

from gateway.cli import main

sys.exit(main())
