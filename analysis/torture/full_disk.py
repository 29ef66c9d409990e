"""A disk that is full from one write of a run on: it ends in one line, and goes on once there is room.

A small library that is loaded before all others counts the writes below the run's folder, whoever makes
them, and lets each from a given one on fail; it takes a C compiler and Linux.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from analysis.torture.config import Config
from analysis.torture.forks import Forks
from analysis.torture.outcome import Outcome, growing
from analysis.torture.processes import call_of, left_over, resumed, undisturbed
from capacity.errors import InputError

COMMAND = "capacity_curve"
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
static long count = 0;
static int full(const char *path) {
    const char *folder = getenv("FULL_FOLDER"), *from = getenv("FULL_FROM");
    if (!folder || !from || strncmp(path, folder, strlen(folder))) return 0;
    if (++count < atol(from)) return 0;
    errno = ENOSPC;
    return 1;
}
static int full_file(int file) {
    char name[64], path[4096];
    if (!getenv("FULL_FROM")) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return full(path);
}
#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))
ssize_t write(int file, const void *data, size_t size) {
    return full_file(file) ? -1 : REAL(write)(file, data, size);
}
int ftruncate64(int file, off64_t size) { return full_file(file) ? -1 : REAL(ftruncate64)(file, size); }
int posix_fallocate64(int file, off64_t start, off64_t size) {
    return full_file(file) ? ENOSPC : REAL(posix_fallocate64)(file, start, size);
}
int fsync(int file) { return full_file(file) ? -1 : REAL(fsync)(file); }
int mkdir(const char *path, mode_t mode) { return full(path) ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *old, const char *new) { return full(new) ? -1 : REAL(rename)(old, new); }
#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
    return (flags & O_CREAT) && full(path) ? -1 : REAL(name)(path, flags, mode); }
OPEN(open)
OPEN(open64)
"""


def full_disk(config: Config, folder: Path, forks: Forks) -> Iterator[Outcome]:
    """Each of the first writes of a run; fewer where a run has fewer."""
    _, right = undisturbed(forks, call_of(COMMAND, folder / "whole"))
    reasons = (_full_from(number, forks, folder / "run", right) for number in range(1, config.writes + 1))
    tries = ((0.0, why) for why in takewhile(lambda why: why is not None, reasons) if why is not None)
    yield from growing("full-disk", COMMAND, config.writes, tries)


def compiled(folder: Path) -> Path:
    """The library that counts writes; raises InputError without a C compiler."""
    source, library = folder / "full.c", folder / "full.so"
    source.write_text(SOURCE, encoding="utf-8")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise InputError("full-disk takes a C compiler, cc or gcc; leave it out of --parts")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def _full_from(number: int, forks: Forks, folder: Path, right: str) -> str | None:
    """Why a run whose disk is full from this write on did not hold; None where it has fewer writes."""
    shutil.rmtree(folder, ignore_errors=True)
    call = call_of(COMMAND, folder)
    process = forks.start(call, {"FULL_FOLDER": os.fspath(folder), "FULL_FROM": str(number)})
    _, error = process.communicate()
    if not process.returncode:
        return None
    if process.returncode != 2 or error.count("\n") != 1 or str(folder) not in error:
        return f"write {number}: it ends with {process.returncode}: {error.strip()[-300:]}"
    if left_over(folder):
        return f"write {number}: {left_over(folder)[0].name} is left"
    why = resumed(forks, call, folder, right)
    return why and f"write {number}: {why}"
