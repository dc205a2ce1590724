# ruff: noqa: RUF001
"""Names of folders: what is found again must be called what it was called."""

from __future__ import annotations

from agentrl.hashes import short_hash, slug


def test_names_of_folders_stay() -> None:
    """Written down when they were made: runs of before are found by them."""
    assert slug("VSPO (γ=0.5), no KL.") == "VSPO_γ_0.5_no_KL"
    assert slug("VSPO (γ=0.5), no KL.", "A-Za-z0-9") == "VSPO_0_5_no_KL"
    assert short_hash(["train", "method=vspo"]) == "7462bc10"
    assert short_hash(("method=vspo", "env=webshop"), 10) == "469405fd41"
