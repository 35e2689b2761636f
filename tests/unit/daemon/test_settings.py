"""The operator's configuration: strict, with places, paths relative to the file, passphrases from where it says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.daemon.settings import find_configuration, load_configuration, passphrase
from reconciler.errors import FindingsError, KeyRejectedError, UsageError

GOOD = """\
cluster: {name: town, kubeconfig: kube/config}
sources: [{name: policies, url: "file:///srv/policies.git"}]
ledger: {url: "file:///srv/ledger.git"}
"""


@pytest.fixture
def write(tmp_path):
    """Write a configuration; its path."""

    def write(text):
        path = tmp_path / "reconciler.yaml"
        path.write_text(text)
        return path

    return write


def test_defaults_and_relative_paths(write, tmp_path):
    """What is not given has a stated default; paths start from the file's folder."""
    found = load_configuration(write(GOOD))

    assert found.kubeconfig == tmp_path / "kube/config"
    assert found.work_directory == tmp_path / ".reconciler"
    assert found.settings.health.host == "127.0.0.1"
    assert found.settings.poll == timedelta(minutes=1)
    assert (found.settings.breaker.max_share, found.settings.breaker.max_points) == (0.5, 50)
    assert found.settings.prune.min_age == timedelta(days=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("colour: blue\n", "colour"),
        ("notifications: {}\n", "not supported by this version"),
        ("credentials: {primary: {accessKeyId: secret}}\n", "credentials.primary"),
        (
            "credentials: {primary: {accessKeyId: {env: A}}}\n",
            "credentials.primary.secretAccessKey",
        ),
        ("concurrency: 0\n", "concurrency"),
        ("poll: soon\n", "poll"),
        ("health: {port: 70000}\n", "health.port"),
        ("breaker: {maxShare: 0}\n", "breaker.maxShare"),
        ("passphrases: {primary: {file: a, env: B}}\n", "either file or env"),
        ("passphrases: {primary: {}}\n", "either file or env"),
        ("passphrases: {primary: hunter22}\n", "passphrases.primary"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(write, change, said):
    """Unknown, misspelt, not yet built: refused with line and field, and no value is repeated that may be secret."""
    with pytest.raises(FindingsError) as caught:
        load_configuration(write(GOOD + change))

    assert "reconciler.yaml:4:" in caught.value.message
    assert said in caught.value.message
    assert "hunter22" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["https://git.example.org/x", "ssh://git@host/x", "git@host:x", "/srv/x", "file://x"]
)
def test_remotes_of_other_kinds_are_refused(write, url):
    """Only file:/// remotes; nothing else is accepted and then ignored."""
    with pytest.raises(FindingsError):
        load_configuration(write(GOOD.replace("file:///srv/policies.git", url)))


def test_two_sources_of_one_name(write):
    """Names of sources are names in records: they differ."""
    twice = GOOD.replace("}]", '}, {name: policies, url: "file:///srv/other.git"}]')
    with pytest.raises(FindingsError) as caught:
        load_configuration(write(twice))

    assert "two sources have the same name" in caught.value.message


def test_no_file(tmp_path, monkeypatch):
    """No file is wrong usage, with how to name or write one; the environment may name it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECONCILER_CONFIG", raising=False)
    with pytest.raises(UsageError) as caught:
        find_configuration(None)
    (tmp_path / "other.yaml").write_text(GOOD)
    monkeypatch.setenv("RECONCILER_CONFIG", "other.yaml")

    assert "reconciler init" in caught.value.hint
    assert find_configuration(None).name == "other.yaml"


class TestPassphrase:
    """Where passphrases come from."""

    def test_a_file_without_its_last_line_break(self, write, tmp_path):
        """A file's last line break is not part of it; other blanks are."""
        (tmp_path / "key").write_text("correct horse \n")
        found = load_configuration(write(GOOD + "passphrases: {primary: {file: key}}\n"))

        assert passphrase(found, "primary") == "correct horse "

    def test_the_environment(self, write, monkeypatch):
        """A named variable, or the usual one where nothing is named."""
        monkeypatch.setenv("OFFSITE", "one")
        monkeypatch.setenv("RECONCILER_PASSPHRASE", "two")
        found = load_configuration(write(GOOD + "passphrases: {offsite: {env: OFFSITE}}\n"))

        assert passphrase(found, "offsite") == "one"
        assert passphrase(found, "primary") == "two"

    def test_none_where_it_should_be(self, write, monkeypatch):
        """A missing file or variable is a rejected key that says where it was looked for."""
        monkeypatch.delenv("RECONCILER_PASSPHRASE", raising=False)
        found = load_configuration(write(GOOD + "passphrases: {offsite: {file: nowhere}}\n"))

        with pytest.raises(KeyRejectedError, match="offsite"):
            passphrase(found, "offsite")
        with pytest.raises(KeyRejectedError, match="RECONCILER_PASSPHRASE"):
            passphrase(found, "primary")
