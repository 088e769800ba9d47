"""Signals and errors end a program at once, with a sentence and its exit code, whatever its threads do."""

import os
import signal
import subprocess
import sys
import time

import pytest

from audiojax import process
from tests.conftest import ROOT

HANGING = "import threading, time; threading.Thread(target=time.sleep, args=(100,)).start(); "  # as Orbax's may


def start(code, **options):
    command = [sys.executable, "-c", f"from audiojax import process; {code}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def ended(program):
    """Exit code and the lines on stderr of a program that is to end within seconds."""
    try:
        _, stderr = program.communicate(timeout=20)
    finally:
        program.kill()
    return program.returncode, stderr.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "busy",
    [
        "time.sleep(100)",
        "exec('while True: pass')",
        "__import__('ctypes').CDLL(None).sleep(100)",  # One call that does not come back, as a compilation.
    ],
)
def test_a_signal_ends_it_at_once_and_says_how_to_go_on(number, busy):
    program = start(f"process.end_at_signals(); {HANGING} print(1, flush=True); {busy}")
    program.stdout.readline()
    time.sleep(0.2)
    program.send_signal(number)
    assert ended(program) == (130, [f"audiojax: stopped by {number.name}; the same command goes on."])


def test_a_signal_that_is_ignored_stays_ignored():
    ignore = "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); "  # as nohup does
    program = start(f"{ignore} process.end_at_signals(); print(1, flush=True); time.sleep(1)")
    program.stdout.readline()
    program.send_signal(signal.SIGHUP)
    assert ended(program) == (0, [])


def test_a_handler_that_is_set_later_has_precedence():
    code = (
        "process.end_at_signals(); import signal, time; old = signal.signal(signal.SIGTERM, lambda *_: print(2));"
        "print(1, flush=True); time.sleep(1); signal.signal(signal.SIGTERM, old); print(3, flush=True); time.sleep(100)"
    )
    program = start(code)
    assert program.stdout.readline() == "1\n"
    program.send_signal(signal.SIGTERM)
    assert [program.stdout.readline() for _ in range(2)] == ["2\n", "3\n"]
    program.send_signal(signal.SIGTERM)
    assert ended(program)[0] == 130


ERRORS = {
    "errors.ConfigError('a is b.')": (1, "audiojax: a is b."),
    "errors.Interrupted('stopped by SIGTERM at step 3.')": (130, "audiojax: stopped by SIGTERM at step 3."),
    "KeyboardInterrupt": (130, "audiojax: stopped; the same command goes on."),
    "OSError(28, 'No space left on device')": (1, "audiojax: [Errno 28] No space left on device; mend that and start"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_is_a_sentence_and_no_thread_is_waited_for(error):
    program = start(
        f"{HANGING} from audiojax import errors\ndef fail(): raise {error}\nprocess.run(fail, lambda: None)"
    )
    code, [line] = ended(program)
    assert code == ERRORS[error][0] and line.startswith(ERRORS[error][1])


@pytest.mark.parametrize("folder", ["{tmp}/run", "{tmp}/file/run", None])
def test_an_unforeseen_error_goes_to_a_log(tmp_path, folder):
    """In the folder, or in the temporary one where that cannot be written."""
    (tmp_path / "file").write_text("")
    folder = folder and folder.format(tmp=tmp_path)
    code = f"{HANGING}\ndef fail(): raise LookupError('caf\\udce9\\nmore')\nprocess.run(fail, lambda: {folder!r})"
    code, [line] = ended(start(code, env=os.environ | {"TMPDIR": str(tmp_path)}))
    log = line.partition("its traceback is in ")[2].partition("; exit code 1.")[0]
    assert code == 1 and line.startswith("audiojax: unforeseen LookupError: caf\\udce9; its traceback is in ")
    assert os.path.dirname(log) == (folder if folder and "file" not in folder else str(tmp_path))
    with open(log) as file:
        text = file.read()
    assert "LookupError: caf\\udce9\nmore" in text and "in fail" in text


def test_an_error_before_the_program_runs_is_a_sentence_too(tmp_path):
    code, [line] = ended(
        start(f"process.begin(); {HANGING} import no_such_module", env=os.environ | {"TMPDIR": str(tmp_path)})
    )
    assert code == 1 and line.startswith(
        "audiojax: unforeseen ModuleNotFoundError: No module named 'no_such_module'; its"
    )


def test_logs_are_added_to_and_none_is_lost(tmp_path, monkeypatch, capsys):
    for number in range(2):
        assert str(tmp_path / "error.log") in process.unforeseen(ValueError(f"error {number}"), tmp_path)
    assert [f"ValueError: error {number}\n" in (tmp_path / "error.log").read_text() for number in range(2)] == [
        True
    ] * 2
    monkeypatch.setattr(process.tempfile, "mkstemp", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
    assert process.unforeseen(ValueError("lost?"), None) == "unforeseen ValueError: lost?"
    assert "ValueError: lost?" in capsys.readouterr().err
