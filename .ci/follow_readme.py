"""Does to a new site what the README's install section says: appends its blocks to the files that they name."""

import re
import sys
from pathlib import Path

readme, site = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
section = readme.split("## Install it into your site", 1)[1].split("\n## ", 1)[0]
followed = []
for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
    named = re.match(r"# (\w+\.py)\n", block)
    if named:
        path = site / "shop" / named[1]
        path.write_text(f"{path.read_text()}\n{block}")
        followed.append(named[1])
if followed != ["settings.py", "urls.py"]:
    raise SystemExit(f"The README's install section has changed its blocks: {followed}")
