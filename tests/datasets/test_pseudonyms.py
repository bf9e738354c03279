"""Pseudonyms: stable under one key, different under another, and telling nothing."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.pseudonyms import Pseudonyms

KEY = Pseudonyms(b"0123456789abcdef")


@given(site=st.from_regex(r"\A[a-z0-9-]{1,10}\Z"), name=st.text(min_size=1, max_size=20))
def test_a_pseudonym_depends_on_key_site_and_name_alone(site: str, name: str) -> None:
    assert KEY.patient(site, name) == Pseudonyms(KEY.key).patient(site, name)
    assert KEY.patient(site, name) != Pseudonyms(b"another key of 16").patient(site, name)
    assert KEY.patient(site, name) != KEY.patient(site + "x", name)
    assert KEY.patient(site, name).split(":")[1] != KEY.sample(site, name)[-32:]
    assert KEY.patient(site, name).startswith(f"{site}:")


def test_the_name_cannot_be_read_from_it() -> None:
    assert "patient00042" not in KEY.patient("s", "patient00042")
    assert "view1" not in KEY.sample("s", "patient00042/view1.png")


def test_a_key_too_short_to_keep_a_secret_is_refused_and_never_shown() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Pseudonyms(b"short")
    assert "0123456789abcdef" not in repr(KEY)


def test_a_pseudonym_is_found_without_naming_the_patient_on_the_command_line(tmp_path) -> None:
    (tmp_path / "synthorax_pseudonym_key").write_bytes(KEY.key)
    asked = subprocess.run(
        [sys.executable, "-m", "services.datasets.main", "--site", "chexpert"],
        input="patient00042\n\npatient00043\n",
        env={"SYNTHORAX_SECRETS_DIR": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    names = ("patient00042", "patient00043")
    assert asked.stdout.splitlines() == [KEY.patient("chexpert", name) for name in names]
    assert asked.stderr == ""
