"""`python -m gateway` does what `llm-gateway` does."""

import sys

from gateway.cli.main import main

sys.exit(main())
