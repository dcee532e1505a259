"""Does to a new site what README and docs/running.md say: puts their blocks into the files that these name."""

import re
import sys
from pathlib import Path

FILES = {"settings.py": "shop/settings.py", "urls.py": "shop/urls.py"}
EXPECTED = [
    "settings.py",
    "urls.py",
    "settings.py",
    "sales/whatsapp.py",
    "shop/celery.py",
    "shop/__init__.py",
    "settings.py",
]

root, site = Path(sys.argv[1]), Path(sys.argv[2])
pages = (root / "README.md").read_text() + (root / "docs/running.md").read_text()
followed = []
for block in re.findall(r"```python\n(.*?)```", pages, re.DOTALL):
    named = re.match(r"# ([\w/]+\.py)\b", block)
    if named:
        path = site / FILES.get(named[1], named[1])
        path.write_text(f"{path.read_text() if path.exists() else ''}\n{block}")
        followed.append(named[1])
if followed != EXPECTED:
    raise SystemExit(f"The pages name other files in their blocks than they used to: {followed}")
