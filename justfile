# The one door: people and CI run the same recipes. `uv run just` lists them.
_:
    @just --list --unsorted

# Run the service; `just run --port 9000`
run *arguments:
    uv run llm-gateway {{ arguments }}

# Check format, lint and types
check:
    uv run ruff format --check
    uv run ruff check
    uv run mypy
    uv run basedpyright

# Mend what format and lint can mend
fix:
    uv run ruff check --fix
    uv run ruff format

# Run all tests, or those named
test *arguments:
    uv run pytest {{ arguments }}

# Run the tests against the real service only
e2e *arguments:
    uv run pytest tests/e2e tests/faults tests/browser {{ arguments }}

# Show that every rule of the engine contract can fail
mutate:
    uv run python tests/mutate.py

# Run the clients that people use, or those named, each in an environment of its own, against the real model
clients *names:
    uv run python -m tests.clients {{ names }}

# Measure this machine, and the engine and the service on it, with the built-in model
bench *arguments:
    uv run python tests/load/engine.py {{ arguments }}

# Measure what the HTTP path adds to the engine
overhead *arguments:
    uv run python tests/load/overhead.py {{ arguments }}

# Measure what each dialect costs a streamed token, and whole answers a second beside a bare handler
dialects *arguments:
    uv run python -m tests.load.dialects {{ arguments }}

# Kill, flood and reload the running service, and print what it keeps of its promises
chaos *trials:
    uv run python -m tests.chaos {{ trials }}
