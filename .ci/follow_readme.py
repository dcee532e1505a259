"""Does to a new site what the README says: puts its blocks into the files that their first lines name."""

import re
import sys
from pathlib import Path

FILES = {"settings.py": "shop/settings.py", "urls.py": "shop/urls.py", "sales/whatsapp.py": "sales/whatsapp.py"}
EXPECTED = ["settings.py", "urls.py", "settings.py", "sales/whatsapp.py"]

readme, site = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
followed = []
for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
    named = re.match(r"# ([\w/]+\.py)\b", block)
    if named:
        path = site / FILES[named[1]]
        path.write_text(f"{path.read_text() if path.exists() else ''}\n{block}")
        followed.append(named[1])
if followed != EXPECTED:
    raise SystemExit(f"The README names other files in its blocks than it used to: {followed}")
