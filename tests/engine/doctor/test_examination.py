"""All checks come to an end, whatever they meet."""

import threading

from engine.doctor.examination import examine
from engine.doctor.finding import NOTE, OK, PROBLEM, Check, Finding


def _raising(error):
    def look():
        yield Finding("first", OK, "fine")
        raise error

    return look


def test_what_a_check_raises_is_a_problem_beside_what_it_has_found():
    found = list(examine([Check("broken", _raising(ValueError("two\n lines")))]))
    assert [(each.check, each.state) for each in found] == [("first", OK), ("broken", PROBLEM)]
    assert found[1].found == "cannot be looked at: ValueError: two lines"


def test_a_check_that_would_end_the_program_does_not():
    (_, found) = examine([Check("broken", _raising(SystemExit()))])
    assert (found.state, found.found) == (PROBLEM, "cannot be looked at: SystemExit: no reason given")


def test_a_check_without_an_answer_is_given_up():
    never = threading.Event()
    hanging = Check("hanging", lambda: [Finding("x", OK, str(never.wait()))])
    after = Check("after", lambda: [Finding("after", NOTE, "n", "m")])
    found = list(examine([hanging, after], patience_s=0.05))
    never.set()
    assert found == [Finding("hanging", PROBLEM, "no answer after 0.05 s"), Finding("after", NOTE, "n", "m")]


def test_a_slow_check_is_begun_first_and_said_last():
    order = []

    def noting(name):
        def look():
            order.append(name)
            return [Finding(name, OK, "")]

        return look

    checks = [Check("slow", noting("slow"), slow=True), Check("quick", noting("quick"))]
    assert [each.check for each in examine(checks)] == ["quick", "slow"]
    assert order == ["slow", "quick"]
