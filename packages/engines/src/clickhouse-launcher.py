"""Serves ClickHouse over HTTP and the native protocol from libchdb.so, in this one process.

    python3 clickhouse-launcher.py LIBCHDB CONFIG DATA

libchdb.so carries all of `clickhouse local`, which can `SYSTEM START LISTEN` with the handlers of the real server. It serves for as long as it
waits for its next query on a terminal; so its standard input becomes a pseudo terminal on which nobody types, and SIGTERM types
Ctrl-D. With a pipe instead, one malformed connection would end it.
"""

import ctypes
import os
import signal
import sys
import threading

library, config, data = sys.argv[1:4]

# Blocked before any thread of the library exists, so that only `stop` below receives it.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
master, terminal = os.openpty()
os.dup2(terminal, 0)
os.close(terminal)


def drain():
    """What the prompt echoes has to be read, or it blocks once the terminal's buffer is full."""
    try:
        while os.read(master, 4096):
            pass
    except OSError:
        pass


def stop():
    while True:
        signal.sigwait([signal.SIGTERM, signal.SIGINT])
        os.write(master, b"\x04")


threading.Thread(target=drain, daemon=True).start()
threading.Thread(target=stop, daemon=True).start()

arguments = [
    "clickhouse",
    "--config-file",
    config,
    "--path",
    data,
    "--interactive",
    "--disable_suggestion",
    "--query",
    "SYSTEM START LISTEN HTTP",
]
argv = (ctypes.c_char_p * (len(arguments) + 1))(*[word.encode() for word in arguments], None)
chdb = ctypes.CDLL(library)
chdb.chdb_query_cmdline.restype = ctypes.c_void_p
chdb.chdb_result_error.restype = ctypes.c_char_p
chdb.chdb_result_error.argtypes = [ctypes.c_void_p]
result = chdb.chdb_query_cmdline(len(arguments), argv)
error = chdb.chdb_result_error(result)
if error:
    print(error.decode(errors="replace"), file=sys.stderr, flush=True)
# No interpreter shutdown: the library's threads may still run.
os._exit(1 if error else 0)
