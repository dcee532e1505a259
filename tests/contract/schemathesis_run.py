"""Runs schemathesis' generated requests against a sandbox of its own: linked, not linked, and not linked answering 500.

    python -m tests.contract.schemathesis_run [--max-examples N]

Ends with 0 where there was no finding. CI runs it; it is no part of the test suite, because it takes minutes and needs
schemathesis, which the `test` extra does not bring. What is expected of the answers is in schemathesis.toml.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.contract.documented import CONTRACT
from tests.sandbox import SandboxProcess

HERE = Path(__file__).parent
SANDBOXES = (("--linked", "--group", "string"), (), ("--unlinked-status", "500"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-examples", type=int, default=100)
    options = parser.parse_args()
    return max(run(arguments, options.max_examples) for arguments in SANDBOXES)


def run(arguments: tuple[str, ...], max_examples: int) -> int:
    print(f"schemathesis against the sandbox {' '.join(arguments) or 'without options'}", flush=True)
    with SandboxProcess(*arguments) as sandbox:
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(HERE / "schemathesis.toml"),
            "run",
            str(CONTRACT),
            f"--url={sandbox.base_url}",
            f"--header=X-API-KEY:{sandbox.key}",
            f"--max-examples={max_examples}",
            "--no-color",
            # It warns that most of what it makes up is refused: random text is no phone number, and no URL.
            "--warnings=off",
        ]
        if "500" in arguments:
            # The 500 is what this sandbox was asked for; that it has its documented shape is still checked.
            command.append("--exclude-checks=not_a_server_error,positive_data_acceptance")
        with tempfile.TemporaryDirectory() as scratch:  # schemathesis keeps its failures in the working directory
            return subprocess.run(command, check=False, cwd=scratch).returncode


if __name__ == "__main__":
    sys.exit(main())
