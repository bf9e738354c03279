"""The object store against the real S3 server."""

from pathlib import Path
from uuid import uuid4

import pytest

from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore, sha256


@pytest.fixture
def store(settings) -> ObjectStore:
    """A store whose bucket nobody has made yet."""
    return ObjectStore(
        settings.s3_endpoint,
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        f"new-{uuid4().hex[:12]}",
    )


def test_the_first_put_makes_the_bucket(store: ObjectStore) -> None:
    store.put("a/b", b"content")
    assert store.get("a/b") == b"content"
    store.ensure_bucket()
    assert list(store.keys("a/")) == ["a/b"]


def test_a_read_verifies(store: ObjectStore) -> None:
    store.put("a", b"content")
    assert store.get("a", sha256(b"content")) == b"content"
    with pytest.raises(DigestMismatch):
        store.get("a", sha256(b"other"))
    with pytest.raises(ObjectMissing):
        store.get("b")
    assert store.exists("a")
    assert not store.exists("b")


def test_files_go_in_and_come_out_verified(store: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50_000  # more than one part
    (tmp_path / "in").write_bytes(content)
    store.put_file("a/file", tmp_path / "in")
    store.get_file("a/file", tmp_path / "out", sha256(content))
    assert (tmp_path / "out").read_bytes() == content
    with pytest.raises(DigestMismatch):
        store.get_file("a/file", tmp_path / "other", sha256(b"other"))
    assert not (tmp_path / "other").exists()
    with pytest.raises(ObjectMissing):
        store.get_file("b", tmp_path / "none", sha256(b""))


def test_deletion_is_a_prefix(store: ObjectStore) -> None:
    for key in ("a/1", "a/2/3", "ab/4"):
        store.put(key, b"x")
    store.remove_prefix("a/")
    assert list(store.keys("")) == ["ab/4"]
    with pytest.raises(ValueError, match="slash"):
        store.remove_prefix("a")
