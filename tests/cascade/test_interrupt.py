import os
import signal
import threading

import pytest

from cascade.contracts import OperatorStop
from cascade.interrupt import stop_on_signals


def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def test_while_a_stage_computes_the_first_signal_interrupts_it():
    with stop_on_signals() as stop:
        with pytest.raises(OperatorStop):
            interrupt()
        assert stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_arm_moves_the_first_signal_only_asks_and_the_second_interrupts(number):
    with stop_on_signals() as stop:
        stop.moving = True
        interrupt(number)
        assert stop.is_set()
        with pytest.raises(OperatorStop):
            interrupt(number)


def test_nothing_interrupts_the_writing_of_the_run():
    with stop_on_signals() as stop:
        stop.finishing = True
        interrupt()
        interrupt()
        assert stop.is_set()


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_no_handler_is_installed():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with stop_on_signals() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.is_set()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
