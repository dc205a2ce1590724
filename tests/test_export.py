"""An exported policy is the trained one, to `transformers` and to `peft`; its card tells how it was made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentrl import config
from agentrl.cli import main
from tests.toy import save_toy_model
from tests.toy_run import toy_train

IDS = torch.arange(12)[None] % 9


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained runs: all weights, and adapters."""
    folder = tmp_path_factory.mktemp("runs")
    model = save_toy_model(folder / "base")
    for name, words in (("full", []), ("lora", ["model.lora_rank=4"])):
        toy_train(model, folder / name, "method=grpo", "steps=4", *words)
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def trained(run: Path) -> torch.Tensor:
    """Logits of the run's policy as the learner holds it."""
    cfg = config.load(run / "config.yaml")
    cfg.model.path = str(run / "checkpoints" / "step_000004" / "model")
    with torch.no_grad():
        return config.build(cfg.model).build("cpu").module(IDS).logits


@pytest.mark.parametrize("name", ["full", "lora"])
def test_transformers_loads_the_policy(
    name: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = told(capsys, "export", str(runs / name), f"folder={tmp_path / 'out'}")
    assert (code, out) == (0, f"wrote {tmp_path / 'out'}: the policy after step 4\n")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not hasattr(model, "peft_config")
    with torch.no_grad():
        found = model(IDS).logits
        base = AutoModelForCausalLM.from_pretrained(runs / "base")(IDS).logits
    torch.testing.assert_close(found, trained(runs / name), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, base, atol=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template


def test_adapters_stay_adapters(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from peft import AutoPeftModelForCausalLM

    code, out, _ = told(capsys, "export", str(runs / "lora"), f"folder={tmp_path / 'out'}", "merge=false")
    assert code == 0
    assert "adapters of step 4" in out
    with torch.no_grad():
        found = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")(IDS).logits
    torch.testing.assert_close(found, trained(runs / "lora"))
    assert "library_name: peft" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_tells_panel_and_results(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "export", str(runs / "full"), f"folder={tmp_path / 'out'}", "dtype=bfloat16")
    card = (tmp_path / "out" / "README.md").read_text()
    summary = config.plain(config.load(runs / "full" / "summary.json"))
    assert f"hash `{summary['panel_hash']}`" in card
    assert f"| after training | sampled | {summary['eval']['after']['sampled']['success']:.3f} |" in card
    assert "method: grpo" in card
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "run: missing; say agentrl export RUN"),
        (("nowhere",), "nowhere: there is no such folder"),
        (("full", "step=3"), "holds no such checkpoint; it has 4"),
        (("full", "folder=full"), "exists and is not empty"),
        (("full", "dtype=float8"), "dtype=float8: did you mean 'float"),
    ],
)
def test_mistakes(
    words: tuple[str, ...], says: str, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    code, _, err = told(capsys, "export", *words)
    assert code == 2
    assert says in err
