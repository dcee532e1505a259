#!/usr/bin/env bash
# Checks the built package, outside of this checkout:
# 1. Builds the source distribution, and the wheel from it, and checks the wheel's files.
# 2. Runs those tests of the source distribution that need no server.
# 3. Installs the wheel into a new Django site that follows the README's steps. A message and a receipt must come out.
# Usage: .ci/new_site.sh EMPTY_FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
site=$(cd "$1" && pwd)
"${CI_PYTHON:-python3}" -m venv "$site/venv"
python="$site/venv/bin/python"
"$python" -m pip install -q build twine
"$python" -m build -q --outdir "$site/dist" "$root"
"$python" -m twine check --strict "$site"/dist/*
"$python" - "$site"/dist/*.whl <<'EOF'
import sys
import zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
wanted_files = (
    *("py.typed", "sandbox/openapi.yaml", "migrations/0001_initial.py", "sandbox/templates/", "sandbox/static/"),
    *("templates/admin/django_kpwa/dashboard/", "static/django_kpwa/dashboard.js", "locale/id/LC_MESSAGES/django.mo"),
)
for wanted in wanted_files:
    assert any(name.startswith(f"django_kpwa/{wanted}") for name in names), f"{wanted} is missing from the wheel"
foreign = [name for name in names if not name.startswith(("django_kpwa/", "django_kpwa-"))]
assert not foreign, f"The wheel has files that do not belong to the package: {foreign}"
EOF
mkdir "$site/unpacked"
tar -xzf "$site"/dist/*.tar.gz -C "$site/unpacked" --strip-components 1
"${CI_PYTHON:-python3}" -m venv "$site/tests"
(cd "$site/unpacked" && "$site/tests/bin/pip" install -q -e ".[test]" && "$site/tests/bin/python" -m pytest -q tests/unit)
"$python" -m pip install -q "$(echo "$site"/dist/*.whl)[redis]"

cd "$site"
venv/bin/django-admin startproject shop .
"$python" manage.py startapp sales
cat > sales/models.py <<'EOF'
from django.db import models


class Sale(models.Model):
    class Status(models.TextChoices):
        PAID = "paid"

    status = models.CharField(max_length=10, choices=Status.choices)
    customer_phone = models.CharField(max_length=30)
    paid_at = models.DateTimeField(auto_now_add=True)
EOF
mkdir -p sales/templates/sales
echo 'Terima kasih, nota {{ sale.pk }}' > sales/templates/sales/receipt.txt
echo 'INSTALLED_APPS += ["sales"]' >> shop/settings.py
# The steps are the blocks of README and docs/running.md that name a file in their first line.
"$python" "$root/.ci/follow.py" "$site" "$root/README.md" "$root/docs/running.md"
"$python" manage.py check --fail-level ERROR
"$python" manage.py makemigrations -v 0 sales
"$python" manage.py migrate -v 0
echo "console-gateway-key" | "$python" manage.py kpwa licenses add "Toko Baru"
"$python" manage.py shell -v 0 -c "
from django.db import transaction
from django.urls import resolve
from django_kpwa.outbox import send_message
from sales.models import Sale
assert resolve('/kpwa/webhooks/token/').view_name == 'django_kpwa:webhook'
send_message('0812 3456 7890', 'Halo dari situs baru', idempotency_key='halo-1')
with transaction.atomic():  # outside of one, the receipt would wait for the sale's lines
    Sale.objects.create(status='paid', customer_phone='0812 3456 7891')"
"$python" manage.py kpwa dispatch | tee dispatched
grep -q "Halo dari situs baru" dispatched
grep -q "Terima kasih, nota 1" dispatched
"$python" manage.py kpwa messages --json | "$python" -c "
import json, sys
messages = json.load(sys.stdin)
assert [message['status'] for message in messages] == ['sent', 'sent'], messages
print('The new site sent its first message and its first receipt.')"
# The site's worker, without a broker: it must know every task of the beat's schedule.
"$python" manage.py shell -v 0 -c "
from shop.celery import app
app.loader.import_default_modules()
missing = {entry['task'] for entry in app.conf.beat_schedule.values()} - set(app.tasks)
assert not missing, missing"
