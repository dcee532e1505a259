#!/usr/bin/env bash
# Builds the wheel and installs it into a new Django site that follows the README's steps, outside of this checkout.
# Usage: .ci/new_site.sh EMPTY_FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
site=$1
mkdir -p "$site"
"${CI_PYTHON:-python3}" -m venv "$site/venv"
"$site/venv/bin/pip" install -q build
"$site/venv/bin/python" -m build -q --wheel --outdir "$site/dist" "$root"
"$site/venv/bin/pip" install -q "$site"/dist/*.whl
cd "$site"
"$site/venv/bin/django-admin" startproject shop .
# The README's steps are the blocks of its section "Install it into your site" that name a file in their first line.
"$site/venv/bin/python" "$root/.ci/follow_readme.py" "$root/README.md" "$site"
python="$site/venv/bin/python"
"$python" manage.py check --fail-level ERROR
"$python" manage.py migrate -v 0
echo "console-gateway-key" | "$python" manage.py kpwa licenses add "Toko Baru"
"$python" manage.py shell --no-imports -c "
from django_kpwa.outbox import send_message
send_message('0812 3456 7890', 'Halo dari situs baru', idempotency_key='halo-1')"
"$python" manage.py kpwa dispatch | tee "$site/dispatched"
grep -q "Halo dari situs baru" "$site/dispatched"
"$python" manage.py kpwa messages --json | "$python" -c "
import json, sys
messages = json.load(sys.stdin)
messages = messages['messages'] if isinstance(messages, dict) else messages
assert [message['status'] for message in messages] == ['sent'], messages
print('The new site sent its first message.')"
