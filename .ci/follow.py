"""Applies the steps of documentation pages to a site: `follow.py SITE PAGE…`.

A code block whose first line names a file (`# shop/settings.py`, `{# sales/templates/… #}`) is appended to that file.
With `--commands`, blocks of commands (`console`) are run too, in the order of the page. A block of `text` after one is
its expected output, line by line; `…` matches anything. A block that begins with `# in a second terminal` (or another)
keeps running beside the others.

`--instead 8000=8123` replaces a port everywhere, in case the page's own is taken.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

FILES = {"settings.py": "shop/settings.py", "urls.py": "shop/urls.py"}
EXPECTED = {
    "README.md": ["settings.py", "urls.py", "settings.py", "sales/whatsapp.py"],
    "running.md": ["shop/celery.py", "shop/__init__.py", "settings.py"],
}
"""The files that the blocks of each page name, for pages whose commands are not run."""
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"(?:# |\{# )([\w/]+\.\w+)\b")
OTHER_TERMINAL = re.compile(r"# in a \w+ terminal\n")
ONLY_LOOKS = re.compile(r"python manage\.py kpwa (messages|status)|curl -sS http")
PATIENCE_SECONDS = 60


class Follower:
    """Follows pages in the folder `site`. `terminals` are the processes that keep running."""

    def __init__(self, site: Path) -> None:
        self.site = site
        self.terminals: list[subprocess.Popen[bytes]] = []
        path = [str(site / ".venv/bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = {**os.environ, "PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}

    def write_files(self, page: str) -> list[str]:
        """Append the page's blocks to the files that they name; returns these names."""
        return [name for _, _, text in BLOCK.findall(page) if (name := self.write(text))]

    def write(self, block: str) -> str:
        """Append a block to the file that its first line names; returns this name, empty if it names none."""
        named = NAMED.match(block)
        if not named:
            return ""
        path = self.site / FILES.get(named[1], named[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.read_text()}\n{block}" if path.exists() else block)
        return named[1]

    def follow(self, page: str) -> None:
        """Do all that the page says, in its order. Raises `SystemExit` if the result differs from the page."""
        blocks = [(kind, re.sub(rf"^{indent}", "", text, flags=re.M)) for indent, kind, text in BLOCK.findall(page)]
        for (kind, text), (kind_after, text_after) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
            if kind == "console":
                self.run(text, text_after.splitlines() if kind_after == "text" else [])
            else:
                self.write(text)

    def run(self, commands: str, expected: list[str]) -> None:
        print(f"\n--- {commands.strip()}", flush=True)
        if OTHER_TERMINAL.match(commands):
            self.run_beside(commands, expected)
            return
        ends_at = time.monotonic() + PATIENCE_SECONDS
        printed, status = self.run_to_its_end(commands)
        *_, last = commands.strip().splitlines()
        while (missing := missing_in(printed, expected)) and ONLY_LOOKS.match(last) and time.monotonic() < ends_at:
            time.sleep(1)  # the result is still on its way
            again, status = self.run_to_its_end(last)
            printed += again
        print(printed, flush=True)
        if status or missing:
            raise SystemExit(f"Exit code {status}; expected lines that were not printed: {missing}")

    def run_to_its_end(self, commands: str) -> tuple[str, int]:
        ran = subprocess.run(
            ["bash", "-euc", commands], cwd=self.site, env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return ran.stdout, ran.returncode

    def run_beside(self, commands: str, expected: list[str]) -> None:
        log = self.site / f"terminal-{len(self.terminals)}.log"
        with log.open("wb") as output:
            terminal = subprocess.Popen(
                ["bash", "-euc", commands], cwd=self.site, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.terminals.append(terminal)
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while missing := missing_in(log.read_text(errors="replace"), expected):
            if time.monotonic() > ends_at or terminal.poll() is not None:
                raise SystemExit(f"{log.read_text(errors='replace')}\nThe other terminal did not print {missing}.")
            time.sleep(0.2)

    def close(self) -> None:
        """End the processes of the other terminals, as Ctrl-C does there."""
        for terminal in self.terminals:
            if terminal.poll() is None:
                os.killpg(terminal.pid, signal.SIGINT)
        for terminal in self.terminals:
            try:
                terminal.wait(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(terminal.pid, signal.SIGKILL)


def missing_in(printed: str, expected: list[str]) -> list[str]:
    """Those of the expected lines that are not among the printed ones."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    patterns = {line: ".*".join(re.escape(" ".join(part.split())) for part in line.split("…")) for line in expected}
    return [line for line, pattern in patterns.items() if not any(re.fullmatch(pattern, seen) for seen in lines)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--commands", action="store_true")
    parser.add_argument("--instead", action="append", default=[], metavar="PORT=OTHER")
    given = parser.parse_args()
    follower = Follower(given.site.resolve())
    try:
        for path in given.pages:
            page = path.read_text(encoding="utf-8")
            for pair in given.instead:
                port, other = pair.split("=")
                page = re.sub(rf"(?<!\d){port}\b", other, page)
            if given.commands:
                follower.follow(page)
            elif (named := follower.write_files(page)) != EXPECTED[path.name]:
                raise SystemExit(f"The blocks of {path} name other files than expected: {named}")
    finally:
        follower.close()


if __name__ == "__main__":
    main()
