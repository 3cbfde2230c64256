"""API keys: files of them, what a server knows of each, and how they change."""

import hmac
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.api_keys import made

from featurestore.access import key_file, keyring
from featurestore.access.key import digest_of, id_of, make_secret
from featurestore.access.keyring import Keyring
from featurestore.errors import ConfigurationError

SHA = "0" * 64


def entry(**changed: Any) -> str:
    fields = {"name": '"a"', "id": '"00000001"', "sha256": f'"{SHA}"', "may": '["read"]', **changed}
    return "\n".join(["[[key]]", *(f"{name} = {value}" for name, value in fields.items() if value is not None), ""])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_secret_has_256_random_bits_and_tells_its_id() -> None:
    one, other = make_secret(), make_secret()
    assert one != other
    assert len(one.split("_", 2)[2]) == 43  # 32 bytes in base64
    assert one.split("_")[1] == id_of(one)
    assert id_of("secret") == id_of(f"{one}x") == id_of("") == ""


def test_a_key_of_a_file_is_found_by_its_secret_alone(path: Path) -> None:
    secret = made(path, "ranker", "read", "write", entities=["item"], rate=50)
    ring = Keyring(path=str(path))
    key = ring.find(secret)
    assert key is not None
    assert (key.name, key.may, key.rate, key.burst) == ("ranker", frozenset({"read", "write"}), 50.0, 50)
    assert (key.reaches("item"), key.reaches("user")) == (True, False)
    assert ring.closed
    assert ring.some_may("write")
    wrong = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    assert ring.find(wrong) is ring.find("") is ring.find(key.id) is None


def test_the_file_has_no_secret(path: Path) -> None:
    secret = made(path, "ranker", "read")
    text = path.read_text()
    assert secret not in text
    assert secret.split("_", 2)[2] not in text
    assert digest_of(secret).hex() in text


def test_a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode(path: Path) -> None:
    made(path, "a", "read")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    made(path, "b", "read")
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each for each in path.parent.iterdir() if each != path] == []


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    made(link, "a", "read")
    assert link.is_symlink()
    assert "sha256" in path.read_text()


@pytest.mark.parametrize(("mode", "told"), [(0o600, ""), (0o640, ""), (0o644, "read"), (0o666, "write")])
def test_a_file_that_everybody_may_read_or_write_is_warned_of(path: Path, mode: int, told: str) -> None:
    path.write_text("")
    path.chmod(mode)
    warning = key_file.warning_of(str(path))
    assert warning.startswith(f"everybody may {told} ") if told else not warning


def test_keys_are_compared_by_their_digests_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    secret = made(path, "a", "read")
    ring = Keyring("first,second", "third", str(path))
    monkeypatch.setattr(hmac, "compare_digest", noting)
    for asked, count in (("second", 3), ("other", 3), (secret, 4)):
        compared.clear()
        ring.find(asked)
        assert len(compared) == count  # all of them, whichever fits
        assert all(len(each) == 32 for pair in compared for each in pair)
        assert {pair[1] for pair in compared} == {digest_of(asked)}


def test_keys_of_the_settings_may_what_their_list_says() -> None:
    ring = Keyring(" r , both ", "both,w,")
    may = {secret: (key.name, key.may) for secret in ("r", "both", "w") if (key := ring.find(secret))}
    assert may == {
        "r": ("read-1", frozenset({"read", "metrics"})),
        "both": ("read-2", frozenset({"read", "metrics", "write"})),
        "w": ("write-2", frozenset({"write"})),
    }
    assert ring.closed
    assert not Keyring(write_keys="w").closed
    assert not Keyring(" , ", "").closed
    assert not Keyring(" , ", "").some_may("write")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("key = 3", "key"),
        ("keys = []", "keys"),
        ("[[key]", "[[key]]"),
        (entry(name='"a b"'), "'a b'"),
        (entry(name='"a:b"'), "'a:b'"),
        (entry(name='"a\\n"'), "name"),
        (entry(id='"00000001\\n"'), "id"),
        (entry(sha256=f'"{SHA}\\n"'), "sha256"),
        (entry(may='["admin"]'), "admin"),
        (entry(may="[]"), "may"),
        (entry(sha256='"abc"'), "sha256"),
        (entry(id='"x"'), "id"),
        (entry(secret='"x"'), "secret"),
        (entry(rate="0"), "rate"),
        (entry(rate="1e-9"), "rate"),
        (entry(rate="nan"), "rate"),
        (entry(burst="0"), "burst"),
        (entry(entities="[]"), "entities"),
        (entry(expires="2026-01-01T00:00:00"), "expires"),
        (entry(name=None), "name"),
        (entry() + entry(name='"b"'), "00000001"),
        (entry(rate="1") + entry(id='"00000002"', rate="2"), "different rates"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_what_is_wrong(path: Path, text: str, wrong: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        Keyring(path=str(path))
    assert str(path) in str(caught.value)
    assert wrong in str(caught.value)


def test_a_file_that_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"keys\.toml cannot be read"):
        Keyring(path=str(path))


def test_what_is_no_regular_file_is_refused_and_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match=r"keys\.toml is no regular file"):
        Keyring(path=str(path))


def test_of_a_file_that_is_too_large_no_more_is_read_than_tells(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigurationError, match="more than 1048576 bytes"):
        Keyring(path=str(path))


def test_a_file_whose_time_of_change_was_set_back_is_read_again(path: Path) -> None:
    made(path, "a", "read")
    ring = Keyring(path=str(path))
    before = path.stat()
    path.write_text(path.read_text().replace('"a"', '"b"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    ring.look()
    assert [key.name for key in ring.keys] == ["b"]


def test_a_file_that_is_just_being_written_is_read_when_it_is_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = made(path, "a", "read")
    whole = path.read_text()
    ring = Keyring(path=str(path))
    known: list[bool] = []
    ring.changed = lambda: known.append(ring.find(secret) is not None)

    class Enough(BaseException):
        pass

    def sleep(seconds: float) -> None:
        if seconds == keyring.LOOK_EACH_S:
            if known:
                raise Enough
            path.write_text("")  # as editors begin
        else:
            path.write_text(whole)

    monkeypatch.setattr("featurestore.access.keyring.time.sleep", sleep)
    with pytest.raises(Enough):
        ring._look_for_ever()
    assert known == [True]


def test_an_expired_key_is_known_and_not_good(path: Path) -> None:
    now = datetime.now(UTC)
    over = made(path, "over", "read", expires=now - timedelta(seconds=1))
    good = made(path, "good", "read", expires=now + timedelta(hours=1))
    ring = Keyring(path=str(path))
    keys = [ring.find(over), ring.find(good)]
    assert [key is not None and ring.has(key) for key in keys] == [False, True]


def test_a_changed_file_is_read_again_and_keys_that_stay_are_the_same(path: Path) -> None:
    old = made(path, "ranker", "read")
    ring = Keyring(path=str(path))
    calls: list[int] = []
    ring.changed = lambda: calls.append(1)
    before = ring.find(old)
    ring.look()
    new = made(path, "ranker", "read")  # both are active, while one takes the place of the other
    assert ring.find(new) is None
    ring.look()
    assert ring.find(old) is before
    assert ring.find(new) is not None
    assert before is not None
    key_file.remove(str(path), before.id)
    ring.look()
    assert ring.find(old) is None
    assert not ring.has(before)
    assert ring.find(new) is not None
    assert len(calls) == 3


@pytest.mark.parametrize("broken", ["[[key]", None, entry(may='["admin"]')])
def test_a_broken_file_leaves_the_keys_as_they_are_and_is_told_once(
    path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    secret = made(path, "a", "read")
    good = path.read_text()
    ring = Keyring(path=str(path))
    with caplog.at_level(logging.ERROR, "featurestore"):
        if broken is None:
            path.unlink()
        else:
            path.write_text(broken)
        for _ in range(3):
            ring.look()
        assert ring.find(secret) is not None
        assert len([each for each in caplog.records if "the keys stay as they were" in each.message]) == 1
        other = Keyring(path=str(path))  # as a worker that is started now
        assert other.find(secret) is not None
    path.write_text(good.replace('"a"', '"b"'))
    ring.look()
    found = ring.find(secret)
    assert found is not None
    assert found.name == "b"


def test_a_key_is_taken_out_and_all_else_stands_as_it_did(path: Path) -> None:
    made(path, "a", "read")
    other = entry(name='"b"')
    path.write_text(f"# ours\n{path.read_text()}\n# of the rankers\n# (two)\n{other}# the end\n")
    made(path, "c", "write", entities=["item", "ünï\n"])
    before = path.read_text()
    (gone,) = key_file.remove(str(path), "b")
    assert gone.name == "b"
    text = path.read_text()
    assert "rankers" not in text
    assert text.startswith("# ours\n")
    assert set(text.splitlines()) < set(before.splitlines())
    assert [key.name for key in key_file.parse(text, "x")] == ["a", "c"]
    with pytest.raises(ConfigurationError, match="no key with the name or the id b"):
        key_file.remove(str(path), "b")


def test_of_several_keys_with_a_name_one_is_taken_out_by_its_id(path: Path) -> None:
    one, other = made(path, "a", "read"), made(path, "a", "read")
    with pytest.raises(ConfigurationError, match=f"{id_of(one)}, {id_of(other)}, or --all"):
        key_file.remove(str(path), "a")
    assert [key.id for key in key_file.remove(str(path), id_of(one))] == [id_of(one)]
    made(path, "a", "read")
    assert len(key_file.remove(str(path), "a", every=True)) == 2
    assert key_file.parse(path.read_text(), "x") == ()


def test_keys_that_are_written_in_another_form_are_left_alone(path: Path) -> None:
    path.write_text(f'key = [{{name="a", id="00000001", sha256="{SHA}", may=["read"]}}]\n')
    with pytest.raises(ConfigurationError, match="by hand"):
        key_file.remove(str(path), "a")
    with pytest.raises(ConfigurationError):
        made(path, "b", "read")  # TOML does not let one add a table to a list like that
    assert path.read_text().startswith("key = [")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"the folder of .*nowhere.*cannot be used"):
        made(tmp_path / "nowhere" / "keys.toml", "a", "read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_cannot_be_written_is_told(path: Path) -> None:
    made(path, "a", "read")
    path.parent.chmod(0o500)
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            made(path, "b", "read")
    finally:
        path.parent.chmod(0o700)
