"""Everything that the compose file names exists, and its services find each other."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.auth import KeyFile, Keyring, Scope
from gateway.config import PLAIN, PREFIX, ServerSettings
from tests.support.dockerfile import environment, said
from tests.support.prometheus import promtool

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose"
FILE = COMPOSE / "compose.yaml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]
GATEWAY = SERVICES["gateway"]
BUILT = {service["image"] for service in SERVICES.values() if "build" in service}

# The ports that each image listens on, by its maker's documentation.
LISTENS = {"prometheus": {9090}, "grafana": {3000}, "jaeger": {4317, 4318, 16686}}


def published(service: str) -> set[int]:
    return {int(port.rsplit(":", 1)[1]) for port in SERVICES[service].get("ports", [])}


def listens(service: str) -> set[int]:
    return {int(environment()["PORT"])} if service == "gateway" else LISTENS.get(service, set())


def mounts(service: str) -> dict[str, str]:
    """Map each place in the container to what is mounted there."""
    pairs = [mount.split(":")[:2] for mount in SERVICES[service]["volumes"]]
    return {place: source for source, place in pairs}


def provisioned(path: str) -> dict:
    return yaml.safe_load((ROOT / "deploy/grafana/provisioning" / path).read_text())


def test_the_file_keeps_to_the_specification():
    compose_spec = pytest.importorskip("compose_spec", reason="no compose_spec; the package `compose-spec` brings it")
    compose = compose_spec.PyOptions(apply_merge=True).from_yaml(FILE.read_text())
    compose.validate()
    assert set(compose.service_names()) == set(SERVICES)


def test_the_image_is_built_from_the_root_of_the_repository():
    context = (COMPOSE / GATEWAY["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / GATEWAY["build"]["dockerfile"]).is_file()


def test_one_service_builds_an_image_and_the_others_use_it():
    """Compose builds services at once: two builds of one tag race, and what is not built here it would pull."""
    for image in BUILT:
        users = [service for service in SERVICES.values() if service["image"] == image]
        builders = [service for service in users if "build" in service]
        assert len(builders) == 1
        assert all(service["pull_policy"] == "never" for service in users if service not in builders)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_pinned_and_confined(service: str):
    settings = SERVICES[service]
    assert settings["image"] in BUILT or re.search(r":v?\d+\.\d+\.\d+$", settings["image"])
    assert settings["read_only"]
    assert settings["tmpfs"] == ["/tmp"]  # noqa: S108 - a place in the container
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_published_on_loopback_only_under_their_own_number(service: str):
    for port in SERVICES[service].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)
    assert published(service) <= listens(service)


def test_the_addresses_in_the_opening_comment_are_those_published():
    opening = FILE.read_text().partition("\nname:")[0]
    told = {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", opening)}
    assert told == {port for service in SERVICES for port in published(service)}


def test_every_file_that_is_mounted_exists_and_every_volume_is_declared():
    declared = set(yaml.safe_load(FILE.read_text())["volumes"])
    used = set()
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).exists(), source
                assert mount.endswith(":ro"), mount
            else:
                used.add(source)
    assert used == declared


def test_the_gateway_keeps_its_cache_and_its_keys_in_volumes():
    assert set(mounts("gateway")) == set(said("VOLUME")[0].split())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of the keys after two starts, and what each of them has shown."""
    folder = tmp_path_factory.mktemp("keys")
    [place] = mounts("keys")
    settings = SERVICES["keys"]
    (script,) = settings["command"]
    assert place in script
    assert f"{place}/keys.db" == environment()["LLM_GATEWAY__AUTH__FILE"]
    inherited = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LLM_GATEWAY__AUTH__FILE": str(folder / "keys.db"),
        "HOST": environment()["HOST"],
    }
    words = [*settings["entrypoint"], script.replace(place, str(folder))]
    shown = [subprocess.run(words, env=inherited, check=True, capture_output=True, text=True).stdout for _ in range(2)]
    return folder, shown


def test_the_first_start_makes_a_key_to_ask_with_and_shows_it_once(made):
    folder, (first, second) = made
    caller = Keyring(file=KeyFile(folder / "keys.db")).caller(first.strip())
    assert (caller.name, caller.scopes) == ("first", {Scope.INFER})
    assert second == ""
    assert stat.S_IMODE((folder / "keys.db").stat().st_mode) == 0o600
    assert first.strip().encode() not in b"".join(file.read_bytes() for file in folder.iterdir())


def test_the_first_start_makes_a_key_that_prometheus_can_read_and_scrape_with(made):
    folder, _ = made
    (job,) = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())["scrape_configs"]
    keys = Path("/etc/prometheus") / job["authorization"]["credentials_file"]
    assert mounts("prometheus")[str(keys.parent)] == mounts("keys")["/var/lib/llm-gateway"]
    file = folder / keys.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    caller = Keyring(file=KeyFile(folder / "keys.db")).caller(file.read_text().strip())
    assert caller.scopes == {Scope.METRICS}


@pytest.mark.parametrize("service", ["gateway", "prometheus"])
def test_who_needs_keys_waits_until_they_are_made(service: str):
    assert SERVICES[service]["depends_on"]["keys"]["condition"] == "service_completed_successfully"
    assert SERVICES["keys"]["restart"] == "no"


def test_every_variable_set_for_the_gateway_is_one_that_it_knows():
    for name in {*GATEWAY["environment"], "HOST", "PORT"}:
        assert name in PLAIN or name.startswith(PREFIX), name


def test_streams_have_time_to_finish_before_the_container_is_killed():
    grace = int(GATEWAY["stop_grace_period"].removesuffix("s"))
    assert grace >= ServerSettings().drain_seconds + 5


@pytest.mark.parametrize(
    "url",
    [
        GATEWAY["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"],
        *(source["url"] for source in provisioned("datasources/datasources.yaml")["datasources"]),
    ],
)
def test_an_address_inside_is_a_service_and_a_port_it_listens_on(url: str):
    address = urlsplit(url)
    assert address.port in listens(address.hostname)


def test_prometheus_scrapes_the_gateway_where_it_listens():
    config = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    (address,) = job["static_configs"][0]["targets"]
    assert address == f"gateway:{environment()['PORT']}"
    sources = provisioned("datasources/datasources.yaml")["datasources"]
    (prometheus,) = [source for source in sources if source["type"] == "prometheus"]
    assert prometheus["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_promtool_accepts_the_configuration_of_prometheus(made, tmp_path):
    shutil.copy(COMPOSE / "prometheus.yaml", tmp_path)
    shutil.copytree(made[0], tmp_path / "keys")
    shutil.copytree(COMPOSE / mounts("prometheus")["/etc/prometheus/rules"], tmp_path / "rules")
    told = promtool("check", "config", tmp_path / "prometheus.yaml")
    assert "SUCCESS: 2 rule files found" in told


def test_grafana_finds_its_provisioning_and_its_dashboards():
    places = mounts("grafana")
    provisioning = COMPOSE / places["/etc/grafana/provisioning"]
    assert provisioning.resolve() == ROOT / "deploy/grafana/provisioning"
    (provider,) = provisioned("dashboards/dashboards.yaml")["providers"]
    dashboards = COMPOSE / places[provider["options"]["path"]]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (dashboards / home.name).is_file()


def test_grafana_shows_to_anyone_and_lets_nobody_change_or_sign_in():
    settings = SERVICES["grafana"]["environment"]
    assert settings["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert settings["GF_AUTH_BASIC_ENABLED"] == "false"
    assert settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"


def test_a_bucket_leads_to_its_trace_in_jaeger():
    settings = SERVICES["prometheus"]
    flags = dict(flag.removeprefix("--").split("=") for flag in settings["command"])
    assert flags["enable-feature"] == "exemplar-storage"
    assert flags["config.file"] in mounts("prometheus")
    assert flags["storage.tsdb.path"] in mounts("prometheus")
    sources = {source["uid"]: source for source in provisioned("datasources/datasources.yaml")["datasources"]}
    (destination,) = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert destination["name"] == "trace_id"
    assert sources[destination["datasourceUid"]]["type"] == "jaeger"
