"""Starts and ends a program: standard streams, malloc settings, signals, and errors as one sentence."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from audiojax import host
from audiojax.errors import AudiojaxError, Interrupted

STOPPED = 130  # exit code of a program that a signal stopped


def begin() -> None:
    """Prepares the process. A program calls it before its slow imports."""
    open_closed_streams()
    restart_with_malloc_set()
    end_at_signals()
    sys.excepthook = lambda kind, error, trace: end(1, f"{unforeseen(error, None)}; exit code 1.")


def open_closed_streams() -> None:
    """Opens /dev/null in place of each closed standard stream.

    Otherwise the next file that is opened takes the stream's number, and text for stderr is written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def restart_with_malloc_set() -> None:
    """Restarts the program with the GLIBC_TUNABLES of --config.run.malloc; glibc reads them only at the start.

    XLA on CPU allocates a step's memory anew at every step. Huge pages and memory that glibc keeps make that cheap.
    Nothing happens on other systems than Linux, on hosts with accelerators, or where GLIBC_TUNABLES is set already.
    """
    if sys.platform != "linux" or "GLIBC_TUNABLES" in os.environ or host.has_accelerator():
        return
    if tunables := malloc_tunables(malloc_setting(sys.argv[1:]), host.memory_bytes()):
        os.environ["GLIBC_TUNABLES"] = tunables
        os.execv(sys.executable, sys.orig_argv)


def malloc_setting(arguments: list[str]) -> str:
    """The last value of --config.run.malloc on a command line, before flags are parsed; "keep" without one."""
    values = re.findall("\0--?config\\.run\\.malloc[=\0]([^\0]*)", "\0".join(["", *arguments, ""]))
    return values[-1] if values else "keep"


def malloc_tunables(setting: str, memory_bytes: int) -> str:
    """GLIBC_TUNABLES for a value of run.malloc: "keep" or "huge_pages"; "" for "system" and unknown values.

    "keep" also keeps freed memory in one arena. Blocks above a share of `memory_bytes` are returned to the system: in
    the arena they would leave holes, and it would grow.
    """
    huge_pages = {"hugetlb": 1}
    kept = {"arena_max": 1, "mmap_threshold": memory_bytes // 16, "trim_threshold": memory_bytes // 4}
    settings = {"keep": huge_pages | kept, "huge_pages": huge_pages}.get(setting, {})
    return ":".join(f"glibc.malloc.{name}={value}" for name, value in settings.items())


def end_at_signals() -> None:
    """Makes SIGINT, SIGTERM and SIGHUP end the program at once, with one sentence.

    A thread ends it, because Python runs signal handlers only between two bytecodes of the main thread, and a
    compilation may take minutes. A handler that is set later takes precedence. A signal that is ignored at the start
    (nohup) stays ignored.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), _leave_to_thread)

    threading.Thread(target=_watch, args=(reader, writer), daemon=True).start()


def _watch(reader: socket.socket, writer: socket.socket) -> None:
    """Ends the program at the first signal whose handler is `_leave_to_thread`. The argument keeps `writer` open."""
    while number := reader.recv(1):
        if signal.getsignal(number[0]) is _leave_to_thread:
            end(STOPPED, f"stopped by {signal.Signals(number[0]).name}; the same command goes on.")


def _leave_to_thread(number, frame) -> None:
    """Does nothing in the main thread; `_watch` ends the program."""


def run(program: Callable[[], None], log_folder: Callable[[], str | None]) -> None:
    """Runs a program. An error ends the process with one sentence on stderr and an exit code.

    Args:
      log_folder: returns the folder for the traceback of an unforeseen error, or None.
    """
    with contextlib.suppress(AttributeError):  # stdout may be another object without this method.
        sys.stdout.reconfigure(errors="backslashreplace")  # Names that cannot be encoded are escaped.
    try:
        program()
    except Interrupted as stopped:
        end(STOPPED, str(stopped))
    except KeyboardInterrupt:
        end(STOPPED, "stopped; the same command goes on.")
    except AudiojaxError as error:
        end(1, str(error))
    except OSError as error:
        end(1, f"{error}; repair that and start the same command again, which goes on.")
    except Exception as error:
        end(1, f"{unforeseen(error, log_folder())}; exit code 1.")


def unforeseen(error: BaseException, folder: str | pathlib.Path | None) -> str:
    """Appends a traceback to error.log in `folder`; returns a sentence about the error, without its full stop.

    Where the folder cannot be written, the traceback goes to a new file in the temporary folder, or to stderr.
    """
    lines = str(error).strip().splitlines()
    sentence = f"unforeseen {type(error).__name__}" + (f": {lines[0][:300].rstrip('.')}" if lines else "")
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}: {sys.argv}\n"
    text = head + "".join(traceback.format_exception(error)) + "\n"
    for open_log in (lambda: _open_log(folder), lambda: tempfile.mkstemp(".log", "audiojax_")):
        with contextlib.suppress(OSError, TypeError):
            number, path = open_log()
            with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return f"{sentence}; its traceback is in {path}"
    sys.stderr.write(text)
    return sentence


def _open_log(folder: str | pathlib.Path) -> tuple[int, pathlib.Path]:
    path = pathlib.Path(os.path.expanduser(folder)) / "error.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), path


def end(code: int, sentence: str) -> NoReturn:
    """Prints a sentence and ends the process at once, without waiting for its threads."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # The terminal may be gone.
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # A progress bar hides the cursor.
        sys.stderr.write(f"{cursor}audiojax: {sentence}\n")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
