"""What Helm makes of the chart: manifests that Kubernetes takes, and a configuration that the gateway takes."""

import base64
import functools
import hashlib
import json
import os
import re

import httpx
import pytest
import yaml

from gateway import config
from gateway.config.checks import openings
from gateway.config.schema import ServerSettings
from tests.support import helm
from tests.support.dockerfile import said
from tests.support.helm import CHART, EXAMPLES, container, one, secret, variables
from tests.support.pages import Page, serving
from tests.support.prometheus import promtool
from tests.support.service import Service

pytestmark = pytest.mark.skipif(helm.PROGRAM is None, reason="no helm; `just helm` builds it from its Go module")

# What the examples take from Secrets of others.
SECRETS = {
    "LLM_GATEWAY__AUTH__KEYS": json.dumps({"shop": {"sha256": "ab" * 32}}),
    "LLM_GATEWAY__LIMITS__STORE_URL": "redis://:secret@redis:6379/0",
    "LLM_GATEWAY__CACHE__STORE_URL": "redis://:secret@redis:6379/1",
    "REMOTE_API_KEY": "remote",
}
ALL_ON = (
    "autoscaling.enabled=true",
    "serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "cacheVolume.persistent=true",
)
SHARED = "cacheVolume.accessModes={ReadWriteMany}"
SETS = {
    "defaults": (),
    "several": ("several",),
    "stored": ("stored",),
    "gpu": ("gpu",),
    "kuberay": ("kuberay",),
    "everything": (*ALL_ON, SHARED, "podLabels.team=a", "priorityClassName=high", "service.type=LoadBalancer"),
    "open": ("keys.insecureNoAuth=true", "serviceMonitor.enabled=true", "networkPolicy.enabled=false"),
    "own keys": ("keys.generate=false", f"keys.hashes.shop.sha256={'cd' * 32}", "keys.hashes.shop.quota.concurrent=4"),
    "two stores": ("dataVolume.existingClaim=mine", "cacheVolume.existingClaim=theirs", "serviceAccount.create=false"),
}
render = functools.cache(helm.render)


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """The environment of a pod with these values; the gateway's loader reads it."""

    def enter(*sources):
        for name in list(os.environ):
            monkeypatch.delenv(name)
        monkeypatch.chdir(tmp_path)
        given = {name: text for name, text in SECRETS.items() if "AUTH" not in name or "stored" in sources}
        for name, value in variables(render(*sources), tmp_path, **given).items():
            monkeypatch.setenv(name, value)
        return config.look()

    return enter


@pytest.mark.parametrize("name", SETS)
def test_lint_finds_nothing(name):
    done = helm.helm("lint", "--strict", CHART, *helm.flags(*SETS[name]))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("version", ["1.27", helm.NEWEST])
@pytest.mark.parametrize("name", SETS)
def test_every_manifest_keeps_to_the_schema_of_its_kind(name, version):
    manifests = render(*SETS[name])
    assert len({(each["kind"], each["metadata"]["name"]) for each in manifests}) == len(manifests)
    for manifest in manifests:
        helm.check(manifest, version)


def test_the_schemas_refuse_a_field_that_there_is_not():
    deployment = yaml.safe_load(yaml.safe_dump(one(render(), "Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(Exception, match="readinesProbe"):
        helm.check(deployment)


def test_the_cluster_of_the_example_is_one_that_the_operator_takes_and_the_values_name_its_head():
    cluster = yaml.safe_load((EXAMPLES / "raycluster.yaml").read_text())
    helm.check(cluster)
    values = yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text())
    assert values["ray"]["address"] == f"{cluster['metadata']['name']}-head-svc:6379"
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert images == {container(render("kuberay"))["image"]}


@pytest.mark.parametrize("name", SETS)
def test_the_gateway_takes_the_configuration(name, pod):
    read = pod(*SETS[name])
    assert read.warnings == ()
    assert list(openings(read)) == []
    assert (read.server.host, read.server.port) == ("0.0.0.0", 8000)  # noqa: S104 - of its pod


def test_values_become_settings_with_their_types(pod):
    read = pod("several")
    assert list(read.engines) == ["local", "remote"]
    assert read.engines["local"].settings["threads"] == 2
    assert (read.server.drain_seconds, read.server.notice_seconds) == (60, 2.5)
    assert read.routes["assistant"].strategy == "least_loaded"
    assert read.limits.default.tokens_per_minute == 2_000_000
    assert read.limits.replicas == 6
    assert read.limits.store_url == SECRETS["LLM_GATEWAY__LIMITS__STORE_URL"]


@pytest.mark.parametrize(
    ("sources", "first"),
    [
        (("engines.a.plugin=echo",), "default"),
        (("engines.default=null", "engines.b.plugin=echo", "engines.a.plugin=echo"), "a"),
        (("engines.default=null", "engines.b.plugin=echo", "engines.a.plugin=echo", "defaultEngine=b"), "b"),
    ],
)
def test_the_engine_that_is_named_comes_first(sources, first, pod):
    assert next(iter(pod(*sources).engines)) == first


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (("config.server.port=9000",), "config.server.port: the image listens on port 8000"),
        (("config.server.tls_client_ca=/ca",), "the probes of the kubelet have no certificate to show"),
        (("config.engines.a.plugin=echo",), "config.engines: write it as the value `engines`"),
        (("config.auth.file=a",), "config.auth: write it as the value `keys`"),
        (("defaultEngine=other",), 'there is no engine "other"; there is default'),
        (("defaultEngine=a", "engines.a.plugin=echo"), "an engine that is named `default` comes first"),
        (("engines.default=null",), "at least one engine is needed"),
        (("keys.generate=false",), "the gateway does not start without a key"),
        (("keys.existingSecret=a", f"keys.hashes.b.sha256={'0' * 64}"), "all keys are in that Secret"),
        ((f"keys.hashes.first.sha256={'0' * 64}",), "a key of this name is generated"),
        (("autoscaling.enabled=true", "autoscaling.minReplicas=9"), "it is more than maxReplicas"),
        (("cacheVolume.persistent=true", "replicas=2"), "cacheVolume: several pods share no claim without"),
        (("dataVolume.existingClaim=a", "autoscaling.enabled=true"), "dataVolume: several pods share no claim without"),
        (("config.store.file=/var/lib/llm-gateway/s", "replicas=2"), "one file of stored answers serves one pod"),
        (("replica=2",), "replica"),
        (("config.server.drain_seconds=1.5s",), "drain_seconds"),
        (("engines.a-b.plugin=echo",), "a-b"),
    ],
)
def test_values_that_cannot_hold_are_refused_with_the_reason(sources, message):
    with pytest.raises(ValueError, match="rror") as refused:
        render(*sources)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("sources", "grace"),
    [
        ((), 5 + 0 + 30 + 10),
        (("several",), 5 + 3 + 60 + 10),
        (("preStopSeconds=0", "config.server.drain_seconds=0"), 10),
        (("config.server.drain_seconds=null",), 5 + 30 + 10),
    ],
)
def test_the_grace_holds_all_that_comes_before_the_end(sources, grace):
    spec = one(render(*sources), "Deployment")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == grace
    hook = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
    assert hook == (None if "preStopSeconds=0" in sources else ["sleep", "5"])


@pytest.mark.parametrize("hang", [None, 7, 90])
def test_liveness_gives_the_supervisor_time_to_replace_a_worker_first(hang):
    probe = container(render(*([f"config.server.hang_seconds={hang}"] if hang else [])))["livenessProbe"]
    waits = probe["periodSeconds"] * probe["failureThreshold"]
    assert waits >= (hang or ServerSettings().hang_seconds) + 30


@pytest.mark.parametrize("tls", [True, False])
def test_probes_and_scrapes_speak_as_the_port_does(tls):
    files = ("config.server.tls_certificate=/tls/tls.crt", "config.server.tls_key=/tls/tls.key") if tls else ()
    manifests = render("serviceMonitor.enabled=true", "serviceMonitor.tlsConfig.serverName=llm.example.org", *files)
    gateway = container(manifests)
    schemes = {gateway[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "liveness", "readiness")}
    assert schemes == {"HTTPS" if tls else "HTTP"}
    (endpoint,) = one(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == ("https" if tls else "http")
    assert endpoint["tlsConfig"] == {"serverName": "llm.example.org"}


def test_the_pod_has_no_rights_and_writes_only_where_something_is_mounted():
    spec = one(render(), "Deployment")["spec"]["template"]["spec"]
    user, group = map(int, said("USER")[0].split(":"))
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["automountServiceAccountToken"] is False
    (gateway,) = spec["containers"]
    assert gateway["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"] for mount in gateway["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", *said("VOLUME")[0].split()}  # noqa: S108 - a mount


def test_selectors_find_what_they_are_meant_for():
    manifests = render(*SETS["everything"])
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        one(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        one(manifests, "Service")["spec"]["selector"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    scraped = one(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert scraped.items() <= one(manifests, "Service")["metadata"]["labels"].items()
    target = one(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
    assert target == one(manifests, "Deployment")["metadata"]["name"]
    assert "replicas" not in one(manifests, "Deployment")["spec"]


@pytest.mark.parametrize("name", ["llm-gateway", "assistants"])
def test_the_operator_gets_every_rule_and_scrapes_under_the_name_that_they_know(name):
    manifests = render(*SETS["everything"], f"nameOverride={name}")
    files = sorted((CHART.parent / "prometheus").glob("*.yaml"))
    groups = [
        group
        for file in files
        for group in yaml.safe_load(file.read_text().replace('job="llm-gateway"', f'job="{name}"'))["groups"]
    ]
    assert one(manifests, "PrometheusRule")["spec"]["groups"] == groups
    label = one(manifests, "ServiceMonitor")["spec"]["jobLabel"]
    job = one(manifests, "Service")["metadata"]["labels"][label]
    assert set(re.findall(r'job="([^"]*)"', json.dumps(groups).replace("\\", ""))) == {job} == {name}


def test_a_changed_configuration_starts_new_pods():
    def checksums(*sources):
        return one(render(*sources), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert checksums() == checksums("service.port=9")
    changed = checksums("config.server.strict=true")
    assert changed["checksum/config"] != checksums()["checksum/config"]
    assert changed["checksum/keys"] == checksums()["checksum/keys"]


@pytest.mark.parametrize(
    ("sources", "kind"), [((), "RollingUpdate"), (("stored",), "Recreate"), (ALL_ON[3:], "Recreate")]
)
def test_pods_that_cannot_be_side_by_side_follow_each_other(sources, kind):
    assert one(render(*sources), "Deployment")["spec"]["strategy"]["type"] == kind


def test_the_network_is_as_narrow_as_the_values_say():
    rules = one(render(), "NetworkPolicy")["spec"]
    assert rules["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in rules["egress"] for port in rule["ports"]] == [53, 53]
    assert rules["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    assert one(render("networkPolicy.egress.restricted=false"), "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]
    assert len(one(render("several"), "NetworkPolicy")["spec"]["egress"]) == 4


def test_on_a_ray_cluster_the_pod_joins_before_it_starts():
    gateway = container(render("kuberay"))
    assert gateway["command"][:2] == ["sh", "-euc"]
    assert gateway["command"][2].startswith('ray start --address="$0" --num-cpus=0 ')
    assert gateway["command"][2].endswith("exec llm-gateway")
    assert gateway["command"][3] == "models-head-svc:6379"


def test_the_nodes_of_a_ray_cluster_reach_the_pod_on_every_port_and_others_on_one():
    http, nodes = one(render("kuberay"), "NetworkPolicy")["spec"]["ingress"]
    assert http["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert [*nodes] == ["from"]
    (peer,) = nodes["from"]
    assert peer["podSelector"]["matchExpressions"] == [{"key": "ray.io/cluster", "operator": "Exists"}]


def test_the_adapter_and_the_autoscaler_mean_the_same_metric(tmp_path):
    (rule,) = yaml.safe_load((EXAMPLES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    (metric,) = one(render("several"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    for template, text in (
        ("<<.Series>>", rule["name"]["as"]),
        ("<<.LabelMatchers>>", 'pod=~"a"'),
        ("<<.GroupBy>>", "pod"),
    ):
        assert template in rule["metricsQuery"]
        rule["metricsQuery"] = rule["metricsQuery"].replace(template, text)
    rules = [{"record": "a", "expr": rule["metricsQuery"]}, {"record": "b", "expr": rule["seriesQuery"]}]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "adapter", "rules": rules}]}))
    promtool("check", "rules", file)


def test_keys_that_are_there_stay_as_they_are():
    """A server stands in for the cluster's, and knows the Secret of an earlier installation."""
    there = {key: f"llmg_{key}" for key in ("first", "prometheus")}
    found = {"data": {key: base64.b64encode(text.encode()).decode() for key, text in there.items()}}
    kinds = {"resources": [{"name": "secrets", "namespaced": True, "kind": "Secret", "verbs": ["get"]}]}
    pages = {
        "/api/v1?timeout=32s": {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1"} | kinds,
        "/api/v1/namespaces/models/secrets/release-llm-gateway-keys": {"apiVersion": "v1", "kind": "Secret"} | found,
    }
    bodies = {path: Page(json.dumps(body).encode(), content_type="application/json") for path, body in pages.items()}
    with serving(bodies) as address:
        kept = secret(helm.render(cluster=address))
    digests = {name: key["sha256"] for name, key in json.loads(kept.pop("keys")).items()}
    assert kept == there
    assert digests == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in there.items()}
    assert secret(helm.render())["first"] != secret(helm.render())["first"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A service as the pod would start it, with an echo, on a port of this machine; and the manifests."""
    manifests = render("engines.default.plugin=echo", "serviceMonitor.enabled=true", "autoscaling.enabled=true")
    given = variables(manifests, tmp_path_factory.mktemp("pod"))
    for name in ("HOST", "PORT", "PATH", "XDG_CACHE_HOME"):
        given.pop(name)
    with Service(**given) as running:
        yield running, manifests


def bearer(manifests, key):
    return {"authorization": f"Bearer {secret(manifests)[key]}"}


def test_the_probes_ask_what_is_there_without_a_key(served):
    running, manifests = served
    probes = [value for key, value in container(manifests).items() if key.endswith("Probe")]
    assert len(probes) == 3
    for probe in probes:
        assert running.client.get(probe["httpGet"]["path"]).status_code == httpx.codes.OK


def test_the_keys_of_the_secret_open_what_they_are_for(served):
    running, manifests = served
    body = {"prompt": "one two"}
    assert running.client.post("/v1/generate", json=body).status_code == 401
    assert running.client.post("/v1/generate", json=body, headers=bearer(manifests, "first")).status_code == 200
    assert running.client.post("/v1/generate", json=body, headers=bearer(manifests, "prometheus")).status_code == 403


def test_the_service_has_the_metric_that_the_autoscaler_reads(served):
    running, manifests = served
    running.client.post("/v1/generate", json={"prompt": "a"}, headers=bearer(manifests, "first")).raise_for_status()
    (endpoint,) = one(manifests, "ServiceMonitor")["spec"]["endpoints"]
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["name"] == one(manifests, "Secret")["metadata"]["name"]
    scraped = running.client.get(endpoint["path"], headers=bearer(manifests, credentials["key"])).text
    (metric,) = one(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert f"\n{metric['pods']['metric']['name']}{{" in scraped
