"""The servers of `scripts/services`, for the scripts beside it."""

import pathlib
import re
import subprocess


def services(*arguments):
    """The settings that it prints, if any."""
    program = pathlib.Path(__file__).resolve().parent / "services"
    output = subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(re.findall(r"^(\w+)='(.*)'$", output, re.MULTILINE))


def sql(url, *statements):
    """The rows of the last statement, unaligned. Each statement is a transaction of its own."""
    command = ["psql", "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1", url]
    for statement in statements:
        command += ["-c", statement]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
