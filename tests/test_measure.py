from __future__ import annotations

from agentrl.measure import Clock


def test_a_resumed_clock_goes_on_but_its_laps_do_not_count_the_past() -> None:
    clock = Clock()
    with clock.phase("setup"):
        pass
    clock.resume({"setup": 100.0, "rollout": 50.0, "all": 200.0, "cpu": 180.0})
    lap = clock.lap()
    assert lap["setup"] < 1.0
    assert lap["rollout"] == 0.0
    whole = clock.summary()
    assert whole["rollout"] == 50.0
    assert whole["setup"] >= 100.0
    assert whole["all"] >= 200.0
    assert whole["cpu"] >= 180.0
