# One recipe for each task, the same for people and for CI. `uv run just` lists them.
_:
    @just --list --unsorted

# Run the service; `just run --port 9000`
[group('run')]
run *arguments:
    uv run llm-gateway {{ arguments }}

# Run the service in containers with Prometheus, Grafana and Jaeger; needs Docker or Podman with Compose
[group('run')]
up *arguments:
    #!/usr/bin/env bash
    set -euo pipefail
    for compose in "docker compose" "podman compose" docker-compose podman-compose; do
        if $compose version >/dev/null 2>&1; then
            exec $compose --file deploy/compose/compose.yaml up --build {{ arguments }}
        fi
    done
    echo "just up needs Compose: install Docker with its Compose plugin, or podman-compose" >&2
    exit 1

# Check format, lint and types
[group('check')]
check:
    uv run ruff format --check
    uv run ruff check
    uv run mypy
    uv run basedpyright

# Mend what format and lint can mend
[group('check')]
fix:
    uv run ruff check --fix
    uv run ruff format

# Run the tests but the slow ones, a file at a time on each core; one that hangs fails after five minutes, and says where
[group('check')]
test *arguments:
    uv run pytest {{ _side_by_side }} --timeout 300 -m "not slow" {{ arguments }}

# Run the slow tests, which take a quarter of an hour: real compilers, disks and clocks, and the built-in model at length
[group('check')]
slow *arguments:
    uv run pytest {{ _side_by_side }} --timeout 300 -m slow {{ arguments }}

# In the order of their names: the files that start services are the slow ones, and do not come last.
_side_by_side := "--numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder"

# Run the tests against the real service only
[group('check')]
e2e *arguments:
    uv run pytest tests/e2e tests/faults tests/browser {{ arguments }}

# Build Helm from its Go module, fetch the operators' definitions, and test the chart; needs Go; four minutes once
[group('check')]
helm:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v go >/dev/null || { echo "just helm needs Go" >&2; exit 1; }
    tools="${XDG_CACHE_HOME:-$HOME/.cache}/llm-gateway-tools"
    mkdir -p "$tools/crds"
    [ -x "$tools/helm" ] || GOBIN="$tools" go install helm.sh/helm/v3/cmd/helm@v3.22.0
    # The modules of the operators carry the definitions of what they take.
    definitions() {
        folder=$(go mod download -json "$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        for file in "${@:2}"; do install -m 644 "$folder/$file" "$tools/crds/"; done
    }
    definitions github.com/prometheus-operator/prometheus-operator@v0.85.0 \
        example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml
    definitions github.com/ray-project/kuberay/ray-operator@v1.5.0 config/crd/bases/ray.io_rayclusters.yaml
    uv run pytest tests/deploy/test_helm.py tests/deploy/test_helm_rendered.py

# Show that every rule of the engine contract can fail
[group('check')]
mutate:
    uv run python tests/mutate.py

# Build Jaeger from its Go module, and have it show the traces of two running services; needs Go; seven minutes once
[group('check')]
jaeger:
    #!/usr/bin/env bash
    set -euo pipefail
    program="${XDG_CACHE_HOME:-$HOME/.cache}/llm-gateway-tools/jaeger-1.76.0"
    if [ ! -x "$program" ]; then
        command -v go >/dev/null || { echo "just jaeger needs Go" >&2; exit 1; }
        # `go install` takes no module that replaces others.
        folder=$(go mod download -json github.com/jaegertracing/jaeger@v1.76.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        go build -C "$folder" -trimpath -ldflags "-s -w" -o "$program" ./cmd/all-in-one
    fi
    uv run pytest tests/e2e/test_jaeger.py

# Do all that CI does: check and test; what fails beside other tests has one more try alone, and is named
[group('check')]
ci: check
    #!/usr/bin/env bash
    set -uo pipefail
    "{{ just_executable() }}" test && exit
    # 1 says that all tests ran and some failed: neither a crash nor an interruption has a second try.
    code=$?
    [ "$code" = 1 ] || exit "$code"
    echo "The tests that failed beside others run once more, one after another; the first that fails again ends it." >&2
    uv run pytest --last-failed --last-failed-no-failures none --exitfirst --timeout 300 -m "not slow"

# Run the clients that people use, or those named, each in an environment of its own, against the real model
[group('check')]
clients *names:
    uv run python -m tests.clients {{ names }}

# Try every causal type of transformers, or those named, tiny and random, against its own `generate()`; or `--speed`
[group('check')]
architectures *types:
    uv run python -m tests.architectures {{ types }}

# Kill, flood and reload the running service, and print what it keeps of its promises
[group('check')]
chaos *trials:
    uv run python -m tests.chaos {{ trials }}

# Lose a gateway, an engine and Redis under load, of three gateways behind nginx, and print what it cost; `--behind ray`
[group('check')]
scale *arguments:
    uv run python -m tests.scale {{ arguments }}

# Attack the running service with all that has hurt once, or those named, and look for more; `--seed`, `--seconds`
[group('check')]
attack *arguments:
    uv run --group attack python -m tests.attack {{ arguments }}

# Run everything at once for ten minutes, and print what the service kept of it; `--minutes 2`, `--seed`
[group('check')]
soak *arguments:
    uv run python -m tests.soak {{ arguments }}

# Send every endpoint what our document allows and what it does not, and look for a 5xx; `--seconds`, `--examples`, `--seed`
[group('check')]
fuzz *arguments:
    uv run --group attack python -m tests.fuzz {{ arguments }}

# Measure this machine, and the engine and the service on it, with the built-in model
[group('measure')]
bench *arguments:
    uv run python tests/load/engine.py {{ arguments }}

# Hold the number formats of weights against each other: what they say of fixed texts, and how long their steps take
[group('measure')]
formats *arguments:
    uv run python -m tests.load.formats {{ arguments }}

# Hold the products of the kernels against torch's, and fail where a compiler made them slow; a minute
[group('measure')]
products *arguments:
    uv run python -m tests.load.products {{ arguments }}

# Measure what it costs that answers are held to a schema, against free ones of the same length
[group('measure')]
shapes *arguments:
    uv run python -m tests.load.shapes {{ arguments }}

# Measure what long prompts do to the pauses between the tokens of answers, and to a burst of short ones
[group('measure')]
flood *arguments:
    uv run python -m tests.load.flood {{ arguments }}

# Hold this server against OpenVINO GenAI, llama.cpp and vLLM on the same weights, by turns; compiles llama.cpp once
[group('measure')]
peers *arguments:
    uv run python -m tests.load.peers {{ arguments }}

# Measure what the HTTP path adds to the engine, and what a server behind it costs; `--with-litellm` for comparison
[group('measure')]
overhead *arguments:
    uv run python tests/load/overhead.py {{ arguments }}

# Measure what each dialect costs a streamed token, and whole answers a second beside a bare handler
[group('measure')]
dialects *arguments:
    uv run python -m tests.load.dialects {{ arguments }}

# Hold vectors and scores against those of sentence-transformers, and measure both on the same texts
[group('measure')]
embeddings *arguments:
    uv run python -m tests.load.embeddings {{ arguments }}

# Build the six packages into dist/
[group('deliver')]
build:
    uv build --all-packages --clear

# Fetch the libraries of the playground from npm, in the versions of deploy/vendor.py, with their licences
[group('deliver')]
vendor:
    uv run python deploy/vendor.py

# Make the golden prompts of the built-in model again, in float32 by its own code; for another model or other texts
[group('deliver')]
golden:
    uv run python -m gateway_hf.golden.make

# Take the pictures of these pages again, in Chromium, with the built-in model
[group('deliver')]
pictures:
    uv run python -m tests.browser.pictures

# Build the container image; needs Docker, Podman or Buildah; `just image llm-gateway:cuda --target cuda`
[group('deliver')]
image tag="llm-gateway" *arguments:
    #!/usr/bin/env bash
    set -euo pipefail
    if command -v docker >/dev/null; then
        exec docker build --file deploy/docker/Dockerfile --tag '{{ tag }}' {{ arguments }} .
    fi
    for tool in podman buildah; do
        # Their own format knows no health check.
        if command -v "$tool" >/dev/null; then
            exec "$tool" build --format docker --file deploy/docker/Dockerfile --tag '{{ tag }}' {{ arguments }} .
        fi
    done
    echo "just image needs one of docker, podman and buildah; none is installed" >&2
    exit 1

# Write the bill of materials of all that an image may have (CycloneDX 1.5, from the lock file)
[group('deliver')]
sbom file="dist/llm-gateway.cdx.json":
    mkdir -p "$(dirname '{{ file }}')"
    uv export --format cyclonedx1.5 --frozen --no-dev --quiet --preview-features sbom-export --output-file '{{ file }}' \
        --package llm-gateway --package llm-gateway-echo --package llm-gateway-hf --package llm-gateway-llamacpp \
        --package llm-gateway-openai --package llm-gateway-ray

# Run each line of the Dockerfile in a folder, then the service; root, Debian and debootstrap; `--build-arg TORCH=cuda`
[group('deliver')]
rehearse *arguments:
    uv run python -m tests.image {{ arguments }}

# Release a version, as in `just release 0.2.0`: bump, date the changelog, build, commit, tag; nothing is pushed
[group('deliver')]
release version:
    uv run python deploy/release.py '{{ version }}'
