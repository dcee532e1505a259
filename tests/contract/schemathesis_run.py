"""Runs schemathesis against a sandbox: linked, not linked, and not linked with the answer 500.

    python -m tests.contract.schemathesis_run [--max-examples N]

The exit code is 0 if there are no findings. CI runs this. It is not part of the test suite, because it takes minutes
and needs schemathesis, which the `test` extra does not install. schemathesis.toml has the expected answers.
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
            # It would warn that most requests are refused, because random text is neither a phone number nor a URL.
            "--warnings=off",
        ]
        if "500" in arguments:
            # This sandbox answers 500 on purpose. The documented shape of that answer is still checked.
            command.append("--exclude-checks=not_a_server_error,positive_data_acceptance")
        with tempfile.TemporaryDirectory() as scratch:  # schemathesis writes its failures here
            return subprocess.run(command, check=False, cwd=scratch).returncode


if __name__ == "__main__":
    sys.exit(main())
