"""A system that gives no thread costs speed, and no bit."""

import threading

import lockstep


def test_a_run_without_any_thread_has_the_same_weights_and_says_what_it_lacks(tmp_path, monkeypatch, capsys):
    def train(name):
        return lockstep.train("digits", steps=30, threads=2, out=str(tmp_path / name)).results

    def refused(_):
        raise RuntimeError("can't start new thread")

    wanted = train("with")
    monkeypatch.setattr(threading.Thread, "start", refused)
    capsys.readouterr()
    results = train("without")
    assert results["weights_sha256"] == wanted["weights_sha256"]
    assert results["test_accuracy"] == wanted["test_accuracy"]
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warning == "warning: no communication thread can be started here: nothing is overlapped"
