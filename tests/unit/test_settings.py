"""Settings: variables that are none, and passwords that are not shown."""

from pathlib import Path

import pytest

from featurestore import ConfigurationError, Settings
from featurestore.serving.gunicorn_settings import open_reads
from featurestore.settings import settings_in_force, unknown_variables, without_password
from featurestore.transport.dial import open_pool


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("FEATURESTORE_TIMOUT_MS", "did you mean FEATURESTORE_TIMEOUT_MS?"),
        ("FEATURESTORE_WORKER", "did you mean FEATURESTORE_WORKERS?"),
        ("FEATURESTORE_REDIS_URL", "did you mean REDIS_URL?"),
        ("FEATURESTORE_COLOUR", "featurestore settings has all of them"),
    ],
)
def test_unknown_variables_are_told_with_the_nearest_name(variable: str, hint: str) -> None:
    assert unknown_variables({variable: "1", "FEATURESTORE_THREADS": "3"}) == [f"{variable} is not a setting: {hint}"]


def test_what_kubernetes_sets_for_services_is_no_setting() -> None:
    shapes = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP", "PORT_8000_TCP_ADDR",
              "PORT_8000_TCP_PORT", "PORT_8000_TCP_PROTO", "API_SERVICE_HOST", "API_PORT",
              "API_PORT_53_UDP")  # fmt: skip
    environment = {f"FEATURESTORE_{shape}": "tcp://10.0.0.1:8000" for shape in shapes}
    assert unknown_variables(environment) == []
    assert unknown_variables({"FEATURESTORE_SERVICE_HOSTS": "1"}) != []
    of_redis = {"REDIS_PORT": "tcp://10.0.0.1:6379", "REDIS_HOST": "r"}
    assert Settings.from_environment(of_redis).url == "redis://r:6379/0"
    with pytest.raises(ConfigurationError):
        Settings.from_environment({"REDIS_PORT": "10.0.0.1:6379"})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:p@h", "redis://:***@h"),
        ("rediss://user:p%40:/x@h:1/2", "rediss://user:***@h:1/2"),
        ("redis://u:a@b@h", "redis://u:***@h"),
        ("redis://user@h", "redis://user@h"),
        ("unix:///run/a:b@c.sock?db=1", "unix:///run/a:b@c.sock?db=1"),
        ("unix://:p@/run/s?db=1", "unix://:***@/run/s?db=1"),
        ("redis://h?password=p&ssl_password=q&db=1", "redis://h?password=***&ssl_password=***&db=1"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
    (setting,) = (each for each in settings_in_force({"REDIS_URL": url}) if each.variable == "REDIS_URL")
    assert setting.value == shown


def test_a_home_that_is_not_there_matters_to_the_embedded_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "expanduser", _no_home)
    assert Settings.from_environment({}).data_dir.endswith("/featurestore")


def _no_home(_path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p?w@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://me:p#w/x@h", "redis://me:***@h"),
        ("redis://:p@w@h", "redis://:***@h"),
        ("redis://h:6379/0", "redis://h:6379/0"),
    ],
)
def test_a_password_that_is_not_percent_encoded_is_not_shown_either(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("url", ["redis://:p?w@h", "redis://:p#w@h", "redis://:p/w@h"])
def test_an_error_of_a_url_shows_no_part_of_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="in a password, /") as caught:
        open_pool(url, timeout=1, connect_timeout=1, max_connections=1)
    assert "'p'" not in str(caught.value)


def test_a_port_is_told_from_what_kubernetes_sets() -> None:
    assert unknown_variables({"FEATURESTORE_PORT": "tcp://10.0.0.1:8000"}) == []
    (warning,) = unknown_variables({"FEATURESTORE_PORT": "9000"})
    assert warning.startswith("FEATURESTORE_PORT is not a setting")


def test_replicas_have_less_time_to_confirm_a_write_than_the_write_has() -> None:
    chosen = {"FEATURESTORE_WAIT_REPLICAS": "1", "FEATURESTORE_WAIT_MS": "500", "FEATURESTORE_WRITE_TIMEOUT_MS": "500"}
    with pytest.raises(ConfigurationError, match="FEATURESTORE_WAIT_MS=500: want less than FEATURESTORE_WRITE_TIMEOUT"):
        Settings.from_environment(chosen)
    assert Settings.from_environment(chosen | {"FEATURESTORE_WAIT_MS": "499"}).wait_replicas == 1
    assert Settings.from_environment(chosen | {"FEATURESTORE_WAIT_REPLICAS": "0"}).wait_ms == 500


@pytest.mark.parametrize("text", ["63", "0", "5000", "many"])
def test_partitions_that_are_no_power_of_two_are_told_what_would_be_right(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"FEATURESTORE_PARTITIONS": text})
    assert str(caught.value) == f"FEATURESTORE_PARTITIONS={text}: want a power of two from 1 to 4096, such as 64"


def test_a_wrong_place_to_read_from_is_told_the_right_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"READ_FROM='replica'.*want primary, replicas, nearest"):
        Settings.from_environment({"FEATURESTORE_READ_FROM": "replica"})


@pytest.mark.parametrize("variable", ["FEATURESTORE_READ_KEYS", "FEATURESTORE_WRITE_KEYS"])
def test_a_list_of_keys_that_names_none_is_refused(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable}=' ,, ' names no key"):
        Settings.from_environment({variable: " ,, "})
    assert Settings.from_environment({variable: ""}) == Settings.from_environment({})


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "[::]:8000", "10.0.0.5:80", "features.internal:80"])
def test_open_reads_on_an_address_of_others_are_told_of(bind: str) -> None:
    text = open_reads(Settings(), ["127.0.0.1:8000", bind])
    assert f"whoever reaches {bind} can read every feature" in text
    assert not open_reads(Settings(read_keys="k"), [bind])
    assert not open_reads(Settings(keys_file="keys.toml"), [bind])


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "[::1]:8000", "localhost:80", "unix:/run/fs.sock", "fd://3"])
def test_open_reads_on_this_machine_alone_are_nothing_to_tell(bind: str) -> None:
    assert not open_reads(Settings(), [bind])
