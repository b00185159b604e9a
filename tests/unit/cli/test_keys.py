"""Keys are made, listed and ended by the command line, and shown once."""

import json
import re
import stat
import time

import pytest

from gateway import config
from gateway.auth import KeyFile, Keyring, Refusal, Scope
from gateway.cli import main as cli
from gateway.limits import Quota

FILE = "kept/keys.db"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in (*config.PLAIN, "LLM_GATEWAY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENGINE", "echo")
    monkeypatch.setenv("LLM_GATEWAY__AUTH__FILE", FILE)


@pytest.fixture
def keys(capfd):
    def run(*words):
        code = cli.main(["keys", *words])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / FILE)


def test_a_new_key_is_all_that_standard_output_gets_and_opens_the_service(keys, file):
    code, out, err = keys("create", "me")
    assert code == 0
    assert re.fullmatch(r"llmg_[A-Za-z0-9]{32}\n", out)
    assert out.strip() not in err
    caller = Keyring(file=file).caller(out.strip())
    assert (caller.name, caller.scopes, caller.models, caller.quota) == ("me", {Scope.INFER}, None, Quota())
    assert caller.id in err


def test_only_the_owner_can_read_the_file_and_the_key_is_not_in_it(keys, file):
    _, out, _ = keys("create", "me")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert out.strip().encode() not in file.path.read_bytes()


def test_every_flag_sets_what_the_key_may(keys, file):
    words = "create shop --scope infer --scope metrics --model a --model b --expires 2h --requests-per-minute 1"
    words += " --priority 5 --tokens-per-minute 2 --tokens-per-day 3 --concurrent 4"
    assert keys(*words.split())[0] == 0
    [key] = file.read()
    assert key.scopes == {Scope.INFER, Scope.METRICS}
    assert key.models == {"a", "b"}
    assert key.quota == Quota(requests_per_minute=1, tokens_per_minute=2, tokens_per_day=3, concurrent=4)
    assert key.expires == pytest.approx(time.time() + 7_200, abs=60)
    assert key.priority == 5


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5_400), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)]
)
def test_a_time_is_a_number_and_a_unit(keys, file, text, seconds):
    keys("create", "me", "--expires", text)
    [key] = file.read()
    assert key.expires - key.created == seconds


@pytest.mark.parametrize(
    "words",
    [
        ["--expires", "30"],
        ["--expires", "0d"],
        ["--expires", "-1d"],
        ["--expires", "9999999w"],
        ["--concurrent", "0"],
        ["--tokens-per-day", "1.5"],
        ["--scope", "root"],
    ],
    ids=" ".join,
)
def test_a_wrong_flag_makes_no_key(keys, file, words):
    with pytest.raises(SystemExit) as stopped:
        keys("create", "me", *words)
    assert stopped.value.code == 2
    assert not file.path.exists()


def test_the_list_shows_all_but_the_secret(keys, file):
    secrets = [
        keys("create", "shop", "--model", "a", "--tokens-per-day", "7", "--expires", "1d")[1].strip(),
        keys("create", "late", "--scope", "admin")[1].strip(),
    ]
    keys("revoke", "late")
    code, out, err = keys("list")
    assert (code, err) == (0, "")
    first, shop, late = out.splitlines()
    assert first.split() == ["id", "name", "scopes", "models", "limits", "valid"]
    assert re.fullmatch(r"\w{10}  shop  infer   a       tokens_per_day=7  until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shop)
    assert re.fullmatch(r"\w{10}  late  admin   all     default           revoked \d{4}-\S+Z", late)
    told = out + keys("list", "--json")[1]
    for secret in (*secrets, *(key.digest for key in file.read())):
        assert secret not in told


def test_an_expired_key_is_listed_as_such(keys, file):
    KeyFile(file.path, clock=lambda: 1.0).create("old", seconds=1)
    assert keys("list")[1].splitlines()[1].endswith("expired 1970-01-01T00:00:02Z")


def test_the_list_is_json_where_it_is_asked_for(keys, file):
    keys("create", "me", "--model", "b", "--model", "a", "--concurrent", "2")
    keys("revoke", "me")
    [shown] = json.loads(keys("list", "--json")[1])
    [key] = file.read()
    assert shown.pop("id") == key.id
    for name in ("created", "revoked"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shown.pop(name))
    assert shown == {
        "name": "me",
        "scopes": ["infer"],
        "models": ["a", "b"],
        "quota": {"concurrent": 2},
        "priority": 0,
        "expires": None,
    }


@pytest.mark.parametrize("by", ["name", "id"])
async def test_a_revoked_key_is_refused_by_who_serves_already(keys, file, by):
    text = keys("create", "me")[1].strip()
    serving = Keyring(file=file)
    assert serving.caller(text).name == "me"
    [key] = file.read()
    code, out, err = keys("revoke", getattr(key, by))
    assert (code, out) == (0, "")
    assert key.id in err
    await serving.refresh()
    assert serving.caller(text) is Refusal.REVOKED


async def test_a_new_key_is_known_to_who_serves_already(keys, file):
    keys("create", "me")
    serving = Keyring(file=file)
    text = keys("create", "other")[1].strip()
    await serving.refresh()
    assert serving.caller(text).name == "other"


def test_the_file_can_be_named_beside_the_configuration(keys, tmp_path, monkeypatch):
    monkeypatch.delenv("LLM_GATEWAY__AUTH__FILE")
    assert keys("create", "me", "--file", "mine.db")[0] == 0
    assert [key.name for key in KeyFile(tmp_path / "mine.db").read()] == ["me"]
    (tmp_path / "gateway.toml").write_text("[auth]\nfile = 'mine.db'\n")
    assert "me" in keys("list", "--config", "gateway.toml")[1]


def test_the_first_key_can_be_made_where_the_service_would_not_start_without(keys, monkeypatch):
    monkeypatch.setenv("HOST", "0.0.0.0")  # noqa: S104 - read, not bound
    assert keys("create", "me")[0] == 0
    assert cli.main(["check"]) == 0


def test_what_cannot_be_done_is_one_line_and_wrong_usage(keys, file, monkeypatch):
    code, out, err = keys("list")
    assert (code, out) == (2, "")
    assert err == f"llm-gateway: {FILE}: there is no such file; `{config.command()} keys create NAME` makes it\n"
    keys("create", "me")
    assert keys("create", "me") == (2, "", "llm-gateway: there is a key named 'me' already\n")
    assert keys("revoke", "you") == (2, "", "llm-gateway: there is no key 'you'\n")
    assert keys("create", "a\nb")[0] == 2
    file.path.chmod(0o640)
    assert keys("list") == (2, "", f"llm-gateway: {FILE}: its mode is 0640, so others may read it; it must be 0600\n")
    monkeypatch.delenv("LLM_GATEWAY__AUTH__FILE")
    code, _, err = keys("create", "other")
    assert code == 2
    assert err.startswith("llm-gateway: where are the keys? Say --file FILE")


def test_a_model_that_is_nearly_a_name_of_the_configuration_is_a_warning(keys, monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__PARROT__PLUGIN", "echo")
    monkeypatch.setenv("LLM_GATEWAY__ROUTES", '{"gpt-4o-mini": ["parrot"]}')
    for right in ("parrot", "gpt-4o-mini", "default", "echo", "of-another-plugin"):
        assert "warning" not in keys("create", f"for-{right}", "--model", right)[2]
    code, out, err = keys("create", "shop", "--model", "parot")
    assert (code, bool(out)) == (0, True)
    assert err.endswith("model of the configuration is named 'parot'; did you mean 'parrot'?\n")
