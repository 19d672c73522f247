"""The plait command, as a shell runs it: answers, mistakes, exit codes and ^C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import plait
import pytest
from conftest import PATIENCE, until
from plait.lessons import SECTIONS

QUICK = ("--repeats", "1", "--workers", "2")


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "plait.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **options,
    )


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"plait {plait.__version__}\n", "")


def test_help_lists_the_commands():
    for arguments in ((), ("--help",)):
        done = run(*arguments)
        assert done.returncode == 0
        assert all(
            name in done.stdout for name in ("compare", "trace", "race", "tour", "lesson", "doctor")
        )


def test_lesson_lists_the_sections():
    done = run("lesson")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in SECTIONS)
    rows = json.loads(run("lesson", "--json").stdout)
    assert [row["name"] for row in rows] == list(SECTIONS)
    assert all(row["about"] for row in rows)


def test_lesson_runs_one_section():
    done = run("lesson", "Blocking Operations", "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert [section["name"] for section in result["sections"]] == ["blocking"]
    assert result["ok"]
    assert "Blocking Operations" in done.stderr


def test_lesson_hands_out_a_program_that_runs(tmp_path):
    mine = tmp_path / "mine.py"
    assert run("lesson", "serial", "--copy", str(mine)).returncode == 0
    text = mine.read_text()
    done = subprocess.run(
        [sys.executable, str(mine), "--delay", "0"], capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, b"")
    again = run("lesson", "serial", "--copy", str(mine))
    assert again.returncode == 2
    assert "there already" in again.stderr
    assert mine.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "there are: processes, threads"),
        (("--full",), "which lesson"),
        (("serial", "--copy", "/nowhere/mine.py"), "cannot write"),
    ],
)
def test_lesson_mistakes(arguments, words):
    done = run("lesson", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_compare_prints_a_table_the_cells_and_the_verdict():
    done = run("compare", "primes", "--models", "threading,plait.rayon", *QUICK)
    assert done.returncode == 0
    for text in ("threading", "plait.rayon", "four cells", "Rust", "took"):
        assert text in done.stdout
    assert done.stderr == ""


def test_compare_json_is_json_only(tmp_path):
    page = tmp_path / "page.html"
    done = run("compare", "sleep", "--models", "threading", "--json", "--save", str(page), *QUICK)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert [row["model"] for row in report["rows"]] == ["serial", "threading"]
    assert report["bound"] == "io"
    assert page.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compare", "nope"), "primes, mandelbrot"),
        (("compare", "primes", "--models", "nope"), "serial, threading"),
        (("compare", "primes", "--workers", "0"), "workers must be at least 1"),
        (("compare", "primes", "--repeats", "-1"), "repeats must be at least 1"),
        (("compare", "primes", "--workers", "many"), "--workers"),
        (("compare",), "WORKLOAD"),
        (("compare", "no_such_file.py:f", "--items", "[1]"), "no file"),
        (("compare", "math:sqrt"), "--items is missing"),
        (("compare", "primes", "--against", "no.json"), "cannot read no.json"),
        (("compare", "primes", "--save", "report.pdf"), ".html"),
        (("compare", "primes", "--save", "no/such/folder/report.png"), "no such folder"),
        (("nope",), "nope"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, says):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says.lower() in done.stderr.lower()
    assert done.stderr.count("\n") == 1


SCRIPT = """
import os
assert __name__ != "__main__", "it was run, not imported"
NUMBERS = [1, 2, 3]
def work(n):
    print("working")
    return n * n
def crash(n):
    os._exit(9)
"""


def test_a_function_of_a_script_is_compared_and_again_with_what_was_saved(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    models = "threading,futures.process,plait.process"
    asked = ("compare", "mine.py:work", "--items", "NUMBERS", "--models", models, "--json", *QUICK)
    done = run(*asked, "-o", "first.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["ok"] for row in report["rows"]] == [True] * 4
    assert report["what"] == "work"
    assert report["items"] == 3
    again = run(*asked, "--against", "first.json", cwd=tmp_path)
    assert {"changes", "caveats", "verdict"} == set(json.loads(again.stdout)["against"])


def test_a_function_that_crashes_ends_with_a_report(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    (tmp_path / "lines").write_text("a\nb\n")
    asked = ("compare", "mine.py:crash", "--items", "@lines", "--models", "serial", *QUICK)
    done = run(*asked, cwd=tmp_path)
    assert done.returncode == 1
    assert "exit code 9" in done.stdout


def test_doctor():
    assert "pip install gevent" in run("doctor").stdout or "installed" in run("doctor").stdout
    findings = json.loads(run("doctor", "--json").stdout)
    assert findings["cores"]["usable"] == plait.cpu_count()
    assert set(findings["parts"]["gevent"]) == {"needed_for", "installed", "install"}
    looked_at = {finding["name"] for finding in findings["findings"]}
    assert {"build", "GIL", "cores", "start methods", "BLAS threads", "/dev/shm"} <= looked_at
    assert all(set(each) == {"name", "state", "advice"} for each in findings["findings"])


def _group(leader: int) -> list[str]:
    """The processes of a session that still run, as /proc tells."""
    running = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            running.append(stat.parent.name)
    return running


@pytest.mark.parametrize(
    "models", ["serial", "threading", "futures.process", "multiprocessing", "plait.process"]
)
def test_an_interrupt_ends_everything(models):
    """^C, as a terminal sends it: to the whole group at once, while the work runs."""
    code = (
        "import sys, plait.commands as c\n"
        "real = c.run_plan\n"
        "def told(plan, progress):\n"
        "    def note(model, done, steps):\n"
        "        print(model, flush=True)\n"
        "    return real(plan, note)\n"
        "c.run_plan = told\n"
        f"sys.argv = ['plait', 'compare', 'primes', '--models', '{models}', '--repeats', '50']\n"
        "from plait.cli import main\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as command:
        assert command.stdout is not None
        for line in command.stdout:  # until the model's first turn starts
            if line.strip() == models:
                break
        time.sleep(0.3)  # into its run; the test holds wherever in it this falls
        os.killpg(command.pid, signal.SIGINT)
        _, stderr = command.communicate(timeout=PATIENCE)
    assert command.returncode == 130
    told = stderr
    if models == "futures.process" and sys.version_info >= (3, 14):
        # The standard library's fork server prints a traceback if ^C comes as it starts.
        told = stderr[stderr.rfind("plait:") :]
    assert told == "plait: interrupted\n"
    until(lambda: not _group(command.pid))  # the standard library's helpers end by themselves


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "plait", "race"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert "lost-update" in done.stdout, done.stderr


def test_doctor_tells_who_has_switched_the_gil_on(monkeypatch):
    from plait.lab import doctor

    asked = []
    monkeypatch.delenv("PYTHON_GIL", raising=False)
    monkeypatch.setattr(doctor, "_is_free_threaded", lambda: True)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    monkeypatch.setattr(doctor, "_ask", lambda code: asked.append(code) or "culprit")
    found = doctor._gil([])
    assert found["state"] == "on, in a free-threaded build"
    assert "importing culprit has switched it on" in found["advice"]
    assert "plait._core" in asked[0]
