"""The Helm chart, rendered by a real Helm where there is one, and the schemas that manifests are held against."""

import base64
import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.dockerfile import environment

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm"
EXAMPLES = CHART / "examples"
# `just helm` puts the program here, and the definitions of the operators' resources below `crds`.
TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "llm-gateway-tools")
PROGRAM = shutil.which("helm", path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")
NEWEST = kubernetes_validate.latest_version()

Manifest = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm, on no cluster but one that the arguments name."""
    command = [str(PROGRAM), *map(str, arguments), "--kube-version", NEWEST]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "HELM"))}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=own)


def render(*sources: str, cluster: str = "") -> tuple[Manifest, ...]:
    """Render the chart with values: names of examples, or `key=value` as `--set` has them. Raise `ValueError`.

    Templates look up what is there in the `cluster`, a host and port.
    """
    asked = ["--dry-run=server", f"--kube-apiserver=http://{cluster}"] if cluster else []
    done = helm("template", "release", CHART, "--namespace", "models", *asked, *flags(*sources))
    if done.returncode:
        raise ValueError(done.stderr)
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def flags(*sources: str) -> list[str]:
    """Write values as flags."""
    return [f"--set={source}" if "=" in source else f"--values={EXAMPLES / source}.yaml" for source in sources]


def one(manifests: tuple[Manifest, ...], kind: str) -> Manifest:
    """Find the one manifest of a kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def container(manifests: tuple[Manifest, ...]) -> Manifest:
    """Find the gateway's container."""
    (found,) = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def secret(manifests: tuple[Manifest, ...]) -> dict[str, str]:
    """Decode the Secret of the keys."""
    return {key: base64.b64decode(text).decode() for key, text in one(manifests, "Secret")["data"].items()}


def variables(manifests: tuple[Manifest, ...], folder: Path, **secrets: str) -> dict[str, str]:
    """Write the configuration into a folder, and return the variables of the container, those of the image included.

    `secrets` are the values of Secrets that the chart does not make, by the names of their variables.
    """
    file = folder / "gateway.toml"
    file.write_text(one(manifests, "ConfigMap")["data"]["gateway.toml"])
    found = environment()
    for variable in container(manifests)["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference is None:
            found[variable["name"]] = variable["value"]
        elif variable["name"] in secrets:
            found[variable["name"]] = secrets[variable["name"]]
        else:
            found[variable["name"]] = secret(manifests)[reference["key"]]
    assert found["LLM_GATEWAY_CONFIG"] == "/etc/llm-gateway/gateway.toml"
    return found | {"LLM_GATEWAY_CONFIG": str(file)}


def check(manifest: Manifest, version: str = NEWEST) -> None:
    """Hold a manifest against the schema of its kind, which knows all its fields; raise `ValidationError`.

    Skip the test where the kind is an operator's, and its definition is not there.
    """
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        jsonschema.validate(manifest, _custom(manifest["kind"], manifest["apiVersion"].partition("/")[2]))


@functools.cache
def _custom(kind: str, version: str) -> Manifest:
    for file in sorted(TOOLS.glob("crds/*.yaml")):
        definition = yaml.load(file.read_text(), yaml.CSafeLoader)
        if definition["spec"]["names"]["kind"] == kind:
            (found,) = [each for each in definition["spec"]["versions"] if each["name"] == version]
            return _strict(found["schema"]["openAPIV3Schema"])
    return pytest.skip(f"no definition of {kind} in {TOOLS}; `just helm` fetches it")


def _strict(schema: Any) -> Any:
    """Have a schema refuse fields that it does not name, as the API server does with strict validation."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(pattern := schema.get("pattern"), str) and "(?i)" in pattern:
        strict["pattern"] = "(?i)" + pattern.replace("(?i)", "")  # Go takes a flag anywhere, Python at the beginning
    keeps = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and "properties" in schema and not keeps:
        strict["additionalProperties"] = False
    return strict


def defaults() -> Manifest:
    """Read the chart's values."""
    return yaml.safe_load((CHART / "values.yaml").read_text())


def value_schema() -> Manifest:
    """Read the schema of the values."""
    return json.loads((CHART / "values.schema.json").read_text())
