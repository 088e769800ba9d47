"""The process of a program: how it starts, what signals do to it, how it ends."""

import contextlib
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from audiojax.errors import AudiojaxError, Interrupted

# Huge pages; nothing is given back to the system; one arena, because others do give back what is large.
MALLOC = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1000000000000:glibc.malloc.arena_max=1"
)
STOPPED = 130  # exit code of a program that was asked to stop


def begin() -> None:
    """Readies the process of a program, before its imports: its streams, its memory, and the answers to signals and to
    errors."""
    open_closed_streams()
    restart_with_malloc_set()
    end_at_signals()
    sys.excepthook = lambda kind, error, trace: end(1, f"{unforeseen(error, None)}; exit code 1.")


def open_closed_streams() -> None:
    """Opens standard streams that were closed when this program started, to nowhere. Else the next file that is opened
    has their number, and what libraries write to stderr goes into it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def restart_with_malloc_set() -> None:
    """Starts this program anew, on Linux, with glibc told by `MALLOC` to keep memory; at once where it is told already.

    XLA on CPU takes the memory of a step anew at every step, which from the system, in pages of 4 KiB, costs up to half
    of its time. glibc reads its settings as a program starts. A GLIBC_TUNABLES that the user has set is left alone.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = MALLOC
        os.execv(sys.executable, sys.orig_argv)


def end_at_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end the program at once, with a sentence.

    A thread ends it: the main thread runs handlers between two lines of Python, and one line may compile for minutes.
    A handler that is set later, such as the training loop's, has precedence while it is set. A signal that is ignored
    when the program starts, as nohup does, stays ignored.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), _left_to_thread)

    threading.Thread(target=_watch, args=(reader, writer), daemon=True).start()


def _watch(reader: socket.socket, writer: socket.socket) -> None:
    """Ends the program at the first signal that is left to this thread. writer: kept open as long as this runs."""
    while number := reader.recv(1):
        if signal.getsignal(number[0]) is _left_to_thread:
            end(STOPPED, f"stopped by {signal.Signals(number[0]).name}; the same command goes on.")


def _left_to_thread(number, frame) -> None:
    """The handler of the signals that the thread of `end_at_signals` answers."""


def run(program: Callable[[], None], folder: Callable[[], str | None]) -> None:
    """Runs a program. An error ends the process: one sentence on stderr, and the exit code.

    folder: where the traceback of an unforeseen error goes, if it can be written there.
    """
    with contextlib.suppress(AttributeError):  # A stream may be closed, or another object.
        sys.stdout.reconfigure(errors="backslashreplace")  # No name stops what prints it.
    try:
        program()
    except Interrupted as stopped:
        end(STOPPED, str(stopped))
    except KeyboardInterrupt:
        end(STOPPED, "stopped; the same command goes on.")
    except AudiojaxError as error:
        end(1, str(error))
    except OSError as error:
        end(1, f"{error}; mend that and start the same command again, which goes on.")
    except Exception as error:
        end(1, f"{unforeseen(error, folder())}; exit code 1.")


def unforeseen(error: BaseException, folder: str | pathlib.Path | None) -> str:
    """A sentence on an error that has none, without its full stop. Its traceback is added to error.log in `folder`, or
    in a new file of the temporary folder where that cannot be written."""
    lines = str(error).strip().splitlines()
    what = f"unforeseen {type(error).__name__}" + (f": {lines[0][:300].rstrip('.')}" if lines else "")
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}: {sys.argv}\n"
    text = head + "".join(traceback.format_exception(error)) + "\n"
    for open_log in (lambda: _open_log(folder), lambda: tempfile.mkstemp(".log", "audiojax_")):
        with contextlib.suppress(OSError, TypeError):
            number, path = open_log()
            with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return f"{what}; its traceback is in {path}"
    sys.stderr.write(text)
    return what


def _open_log(folder: str | pathlib.Path) -> tuple[int, pathlib.Path]:
    path = pathlib.Path(os.path.expanduser(folder)) / "error.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), path


def end(code: int, sentence: str) -> NoReturn:
    """Ends the process at once with a sentence. Threads that still write or wait are not waited for."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # The terminal may be gone.
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # A progress bar hides it.
        sys.stderr.write(f"{cursor}audiojax: {sentence}\n")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
