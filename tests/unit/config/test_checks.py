"""What no type can say: contradictions, and doors left open."""

import pytest

from gateway import config
from gateway.app import create_app
from gateway.auth import KeyFile
from gateway.config import ConfigError
from gateway.config.checks import OWN_PATH
from tests.support import certificate

ECHO = {config.PLAIN["ENGINE"]: "echo"}
EVERYWHERE = ECHO | {"server.host": "0.0.0.0"}  # noqa: S104 - read, not bound
KEY = "[auth.keys.{}]\nsha256 = '" + "0" * 64 + "'\n"


def test_a_store_is_never_named_with_its_password(write):
    with pytest.raises(ConfigError) as refused:
        config.read(write("[limits]\nstore_url = 'http://:hidden@x'"), ECHO)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_the_loopback_needs_no_key(host):
    assert config.read(flags=ECHO | {"server.host": host}).server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - read, not bound
def test_any_other_address_needs_a_key_or_a_word(tmp_path, host, write):
    file = write(f"[server]\nhost = '{host}'\n")
    with pytest.raises(
        ConfigError, match=rf"gateway\.toml: server\.host: there is no key, so .* {host} .*insecure-no-auth"
    ):
        config.read(file, ECHO)
    assert config.read(file, ECHO | {"auth.insecure_no_auth": "true"}).auth.insecure_no_auth
    assert config.look(file, ECHO).server.host == host
    (tmp_path / "gateway.toml").write_text(f"[server]\nhost = '{host}'\n{KEY.format('me')}")
    assert config.read(file, ECHO).auth.keys


def test_the_keys_of_a_file_open_any_address(tmp_path):
    KeyFile(tmp_path / "keys.db").create("me")
    assert config.read(flags=EVERYWHERE | {"auth.file": "keys.db"}).auth.file == "keys.db"


def test_a_file_without_a_key_is_refused_on_the_loopback_too():
    missing = ECHO | {"auth.file": "Missing/keys.db"}
    with pytest.raises(
        ConfigError, match=r"auth\.file: there is no key in Missing/keys\.db yet; make one \(`.*keys create"
    ):
        config.read(flags=missing)
    assert config.read(flags=missing | {"auth.insecure_no_auth": "true"}).auth.file


def test_a_file_without_a_key_is_fine_beside_keys_of_the_configuration(tmp_path):
    table = f'[auth]\nfile = "keys.db"\n[auth.keys.shop]\nsha256 = "{"ab" * 32}"\n'
    (tmp_path / "gateway.toml").write_text(table)
    assert config.read("gateway.toml", EVERYWHERE).auth.file == "keys.db"


@pytest.mark.parametrize(
    ("mode", "text", "why"),
    [
        (0o644, None, "its mode is 0644, so others may read it; it must be 0600"),
        (0o600, b"no such thing" * 100, "file is not a database"),
        (0o600, b"", "no such table: keys"),
    ],
)
def test_keys_that_cannot_be_read_are_refused_whatever_was_asked_for(tmp_path, mode, text, why):
    file = KeyFile(tmp_path / "keys.db")
    file.create("me")
    if text is not None:
        file.path.write_bytes(text)
    file.path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"^auth\.file: auth\.file: the keys cannot be read: keys\.db: {why}$"):
        config.read(flags=ECHO | {"auth.file": "keys.db", "auth.insecure_no_auth": "true"})
    assert config.look(flags=ECHO | {"auth.file": "keys.db"}).auth.file == "keys.db"


@pytest.mark.parametrize("host", ["x86_64-conda-linux-gnu", "nowhere.invalid", " ", "1.2.3.4.5", "a" * 70])
@pytest.mark.parametrize("keys", ["", KEY.format("me")], ids=["no key", "a key"])
def test_a_host_that_is_no_address_is_refused_and_says_where_it_came_from(monkeypatch, write, host, keys):
    file = write(keys)
    monkeypatch.setenv("HOST", host)
    with pytest.raises(ConfigError, match=rf"^HOST in the environment: server\.host: '{host}' is not an address"):
        config.read(file, ECHO)
    with pytest.raises(ConfigError, match=r"^HOST in the environment: server\.host: "):
        config.service_url()
    assert config.look(flags=ECHO).server.host == host
    assert config.read(flags=ECHO | {"server.host": "127.0.0.1"}).server.host == "127.0.0.1"


def test_a_temporary_folder_that_is_too_long_for_sockets_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / ("x" * (79 - len(str(tmp_path))))
    monkeypatch.setattr("tempfile.tempdir", str(folder)[:78])
    assert config.read(flags=ECHO)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(ConfigError, match=rf"^TMPDIR: {folder} is too long for sockets; .* 78 bytes"):
        config.read(flags=ECHO)
    assert config.look(flags=ECHO)


def test_a_machine_without_a_temporary_folder_is_told_so(monkeypatch):
    def gettempdir():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", gettempdir)
    with pytest.raises(ConfigError, match=r"^TMPDIR: No usable temporary directory .*; set it to a folder"):
        config.read(flags=ECHO)


def test_a_plain_name_that_is_wrong_is_named_as_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("PORT", "x")
    with pytest.raises(ConfigError, match=r"^PORT in the environment: server\.port: expected `int`"):
        config.read(flags=ECHO)
    monkeypatch.delenv("PORT")
    (tmp_path / ".env").write_text("PORT=x\n")
    with pytest.raises(ConfigError, match=r"^\.env: PORT: server\.port: expected `int`"):
        config.read(flags=ECHO)


def test_a_model_of_a_key_that_is_nearly_a_name_of_the_configuration_is_a_warning(write):
    file = write(KEY.format("shop") + "models = ['ehco', 'default', 'echo', 'other']\n")
    [warning] = config.read(file, ECHO).warnings
    assert warning.startswith("auth.keys.shop.models: ")
    assert warning.endswith("named 'ehco'; did you mean 'echo'?")


def test_a_file_of_stored_answers_that_cannot_be_used_is_refused_by_its_setting(write, tmp_path):
    stored = tmp_path / "store.db"
    file = write(f"[store]\nfile = '{stored}'")
    assert config.read(file, ECHO).store.file == str(stored)
    assert not stored.exists()
    stored.write_bytes(b"something else " * 100)
    stored.chmod(0o600)
    with pytest.raises(
        ConfigError, match=r"gateway\.toml: store\.file: stored answers cannot be kept there: .*damaged"
    ):
        config.read(file, ECHO)
    config.look(file, ECHO)


def test_a_folder_of_files_needs_the_file_that_knows_them(tmp_path):
    folder = ECHO | {"files.folder": str(tmp_path / "files")}
    with pytest.raises(ConfigError, match=r"files\.folder: .*store\.file"):
        config.read(flags=folder)
    both = folder | {"store.file": str(tmp_path / "store.db")}
    assert config.read(flags=both).files.folder == str(tmp_path / "files")


@pytest.mark.parametrize("path", ["llm", "/llm/", "/", "/a b", "/..", "/.hidden", '/"', "/a//b", "/ä"])
def test_a_prefix_is_a_plain_path(path):
    with pytest.raises(ConfigError, match=r"server\.root_path: "):
        config.look(flags=ECHO | {"server.root_path": path})


def test_a_prefix_is_none_of_the_services_own_paths():
    for path in ("/llm", "/team-1/llm.v2", "/v1x", ""):
        assert config.look(flags=ECHO | {"server.root_path": path}).server.root_path == path
    with pytest.raises(ConfigError, match=r"server\.root_path: /v1/llm is a path of the service itself"):
        config.look(flags=ECHO | {"server.root_path": "/v1/llm"})
    first = {route.path.split("/")[1] for route in create_app(config.Config()).routes} - {""}
    assert {name for name in first if not OWN_PATH.fullmatch(name)} == set()


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8", ""])
def test_a_trusted_proxy_is_an_address_or_a_network(text):
    with pytest.raises(ConfigError, match=r"server\.forwarded_allow\[1\]: .*expected an address or a network"):
        config.look(flags=ECHO | {"server.forwarded_allow": f'["::1", "{text}"]'})


def test_a_certificate_needs_its_key_and_the_other_way_round(tmp_path):
    for one, other in (("certificate", "key"), ("key", "certificate"), ("client_ca", "key")):
        with pytest.raises(ConfigError, match=rf"server\.tls_{other}: server\.tls_{one} is set, and so this must be"):
            config.look(flags=ECHO | {f"server.tls_{one}": "x"})


@pytest.mark.skipif(certificate.program() is None, reason=certificate.MISSING)
def test_files_that_make_no_certificate_are_refused_before_the_service_starts(tmp_path):
    one, other = certificate.make(tmp_path, "one", "one"), certificate.make(tmp_path, "other", "other")
    good = ECHO | {"server.tls_certificate": str(one.file), "server.tls_key": str(one.key)}
    assert config.read(flags=good).server.url == "https://127.0.0.1:8000"
    (tmp_path / "empty").touch()
    for key, name in (("certificate", "Missing"), ("certificate", "empty"), ("key", "other.key"), ("key", "empty")):
        with pytest.raises(ConfigError, match=r"server\.tls_certificate: it cannot be used with server\.tls_key: "):
            config.read(flags=good | {f"server.tls_{key}": str(tmp_path / name)})
    with pytest.raises(ConfigError, match=r"server\.tls_client_ca: it cannot be used: "):
        config.read(flags=good | {"server.tls_client_ca": str(tmp_path / "empty")})
    assert config.read(flags=good | {"server.tls_client_ca": str(other.file)})
