"""Signals and errors end a program at once, with a sentence and an exit code, whatever its threads do."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from audiojax import errors, host, process
from configs import common
from tests.conftest import ROOT

HANGING = "import threading, time; threading.Thread(target=time.sleep, args=(100,)).start(); "  # as Orbax's may


def start(code, **options):
    command = [sys.executable, "-c", f"from audiojax import process; {code}"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    answer = lambda: signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # A background shell starts the tests with it ignored.
    return subprocess.Popen(command, cwd=ROOT, preexec_fn=answer, **pipes, **options)


def ended(program):
    """Exit code and lines on stderr of a program that must end within seconds."""
    try:
        _, stderr = program.communicate(timeout=20)
    finally:
        program.kill()
    return program.returncode, stderr.splitlines()


@pytest.mark.parametrize(
    ("number", "busy"),
    [
        (signal.SIGINT, "time.sleep(100)"),
        (signal.SIGHUP, "exec('while True: pass')"),
        (signal.SIGTERM, "__import__('ctypes').CDLL(None).sleep(100)"),  # a call that does not return: a compilation
    ],
)
def test_a_signal_ends_it_at_once_and_says_how_to_go_on(number, busy):
    program = start(f"process.end_at_signals(); {HANGING} print(1, flush=True); {busy}")
    program.stdout.readline()
    time.sleep(0.2)
    program.send_signal(number)
    assert ended(program) == (130, [f"audiojax: stopped by {number.name}; the same command goes on."])


def test_ignored_signals_stay_ignored_and_later_handlers_take_precedence():
    code = (
        "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); process.end_at_signals();"  # as nohup does
        "old = signal.signal(signal.SIGTERM, lambda *_: print(2)); print(1, flush=True); time.sleep(0.5);"
        "signal.signal(signal.SIGTERM, old); print(3, flush=True); time.sleep(100)"
    )
    program = start(code)
    assert program.stdout.readline() == "1\n"
    program.send_signal(signal.SIGHUP)
    program.send_signal(signal.SIGTERM)
    assert [program.stdout.readline() for _ in range(2)] == ["2\n", "3\n"]
    program.send_signal(signal.SIGTERM)
    assert ended(program)[0] == 130


@pytest.fixture
def exits(monkeypatch):
    """Makes os._exit raise SystemExit."""
    monkeypatch.setattr(os, "_exit", lambda code: sys.exit(code))


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (errors.ConfigError("a is b."), 1, "a is b."),
        (errors.Interrupted("stopped by SIGTERM at step 3."), 130, "stopped by SIGTERM at step 3."),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on."),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device; repair that and start"),
    ],
)
def test_an_error_is_a_sentence(exits, capsys, error, code, sentence):
    def fail():
        raise error

    with pytest.raises(SystemExit) as ending:
        process.run(fail, lambda: None)
    assert ending.value.code == code
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"audiojax: {sentence}")


@pytest.mark.parametrize("folder", ["run", "file/run", None])
def test_an_unforeseen_error_goes_to_a_log(exits, capsys, tmp_path, monkeypatch, folder):
    """In the folder, or in the temporary one where that cannot be written."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    sys.stderr.reconfigure(errors="backslashreplace")  # as Python's own

    def fail():
        raise LookupError("caf\udce9\nmore")

    with pytest.raises(SystemExit, match="1"):
        process.run(fail, lambda: folder and str(tmp_path / folder))
    [line] = capsys.readouterr().err.splitlines()
    log = line.partition("its traceback is in ")[2].partition("; exit code 1.")[0]
    assert line.startswith("audiojax: unforeseen LookupError: caf\\udce9; its traceback is in ")
    assert os.path.dirname(log) == str(tmp_path / "run" if folder == "run" else tmp_path)
    with open(log) as file:
        text = file.read()
    assert "LookupError: caf\\udce9\nmore" in text and "in fail" in text


def test_an_error_before_the_program_runs_is_a_sentence_and_no_thread_is_waited_for(tmp_path):
    program = start(f"process.begin(); {HANGING} import no_such_module", env=os.environ | {"TMPDIR": str(tmp_path)})
    code, [line] = ended(program)
    sentence = "audiojax: unforeseen ModuleNotFoundError: No module named 'no_such_module'; its"
    assert code == 1 and line.startswith(sentence)


def test_logs_are_appended_and_the_last_resort_is_stderr(tmp_path, monkeypatch, capsys):
    for number in range(2):
        assert str(tmp_path / "error.log") in process.unforeseen(ValueError(f"error {number}"), tmp_path)
    text = (tmp_path / "error.log").read_text()
    assert "ValueError: error 0\n" in text and "ValueError: error 1\n" in text
    monkeypatch.setattr(process.tempfile, "mkstemp", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
    assert process.unforeseen(ValueError("lost?"), None) == "unforeseen ValueError: lost?"
    assert "ValueError: lost?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ([], "keep"),
        (["--config.run.malloc=system"], "system"),
        (["-config.run.malloc", "huge_pages", "--x"], "huge_pages"),
        (["--config.run.malloc=system", "--config.run.malloc=keep"], "keep"),
        (["--config.run.mallocs=system"], "keep"),
        (["--config.run.malloc"], ""),
        (["--config.run.malloc="], ""),
    ],
)
def test_the_malloc_setting_is_read_from_the_command_line(arguments, setting):
    assert process.malloc_setting(arguments) == setting


def test_the_malloc_setting_is_by_default_that_of_the_configs():
    assert process.malloc_setting([]) == common.base().run.malloc


def test_each_malloc_setting_has_its_tunables():
    assert process.malloc_tunables("huge_pages", 1600) == "glibc.malloc.hugetlb=1"
    assert process.malloc_tunables("system", 1600) == process.malloc_tunables("wrong", 1600) == ""
    kept = ["hugetlb=1", "arena_max=1", "mmap_threshold=100", "trim_threshold=400"]
    assert process.malloc_tunables("keep", 1600) == ":".join(f"glibc.malloc.{setting}" for setting in kept)


@pytest.mark.parametrize("case", ["Linux", "another system", "accelerator", "tunables set", "system"])
def test_it_restarts_only_where_that_helps(monkeypatch, case):
    started = []
    monkeypatch.setattr(os, "execv", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(sys, "platform", "darwin" if case == "another system" else "linux")
    monkeypatch.setattr(host, "has_accelerator", lambda: case == "accelerator")
    monkeypatch.setattr(sys, "argv", ["launch.py", *["--config.run.malloc=system"] * (case == "system")])
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if case == "tunables set":
        monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    process.restart_with_malloc_set()
    assert started == ([(sys.executable, sys.orig_argv)] if case == "Linux" else [])
    assert os.environ.pop("GLIBC_TUNABLES", "").count("arena_max") == len(started)  # The variable is left to no test.


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_a_restart_keeps_the_arguments():
    code = (
        "import os, sys; from audiojax import process; process.restart_with_malloc_set();"
        "print(os.environ['GLIBC_TUNABLES'], sys.argv[1:])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", code, "--config.run.malloc=huge_pages", "--workdir=a b"]
    environment["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "glibc.malloc.hugetlb=1 ['--config.run.malloc=huge_pages', '--workdir=a b']\n"


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_receive_files(tmp_path, closed):
    """Text that libraries write to stderr does not go into the next file that is opened."""
    code = (
        "import os, sys; from audiojax import process; process.open_closed_streams();"
        f"file = open({str(tmp_path / 'file')!r}, 'wb'); os.write(2, b'noise'); print('said', file=sys.stderr)"
    )
    done = subprocess.run(f"{sys.executable} -c {shlex.quote(code)} {closed}", shell=True, cwd=ROOT)
    assert done.returncode == 0 and (tmp_path / "file").read_bytes() == b""
