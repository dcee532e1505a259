"""Fills `Recipient` from the messages and events that there are.

Each batch is a transaction of its own and writes what it counts, so that the migration can be interrupted and run again.
"""

from django.db import connections, migrations, transaction
from django.db.models import Count, Max, Min
from django.db.models.functions import Coalesce

ARRIVED = ("sent", "delivered", "read", "unknown")
BATCH = 500
AT = Coalesce("sent_at", "settled_at")


def fill(apps, schema_editor):
    using = schema_editor.connection.alias
    messages = apps.get_model("django_kpwa", "OutboundMessage").objects.using(using).order_by()
    events = apps.get_model("django_kpwa", "WebhookEvent").objects.using(using).order_by()
    recipients = apps.get_model("django_kpwa", "Recipient").objects.using(using)
    sent = messages.filter(recipient_type="number", status__in=ARRIVED, license__isnull=False)
    heard = events.filter(kind="incoming").exclude(sender_number="")
    for rows, column in ((sent, "recipient"), (heard, "sender_number")):
        last = ""
        while numbers := list(
            rows.filter(**{f"{column}__gt": last}).values_list(column, flat=True).distinct().order_by(column)[:BATCH]
        ):
            last = numbers[-1]
            with transaction.atomic(using=using):
                write(recipients, sent.filter(recipient__in=numbers), heard.filter(sender_number__in=numbers))


def write(recipients, sent, heard):
    rows = {
        (license_id, number): recipients.model(
            license_id=license_id, number=number, first_sent_at=first, last_sent_at=last, sent_since_inbound=count
        )
        for license_id, number, first, last, count in sent.values_list("license_id", "recipient").annotate(
            first=Min(AT), last=Max(AT), count=Count("pk")
        )
    }
    wrote = heard.values_list("license_id", "sender_number").annotate(at=Max("received_at"))
    for license_id, number, at in wrote:
        key = (license_id, number)
        row = rows.setdefault(key, recipients.model(license_id=license_id, number=number))
        row.last_inbound_at = at
        if row.last_sent_at is not None:
            since = sent.annotate(at=AT).filter(at__gt=at, license_id=license_id, recipient=number)
            row.sent_since_inbound = since.count()
    # MySQL's upsert takes no conflict target.
    names_target = connections[recipients.db].features.supports_update_conflicts_with_target
    recipients.bulk_create(
        rows.values(),
        update_conflicts=True,
        unique_fields=["number", "license"] if names_target else None,
        update_fields=["first_sent_at", "last_sent_at", "last_inbound_at", "sent_since_inbound"],
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("django_kpwa", "0006_put_off")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
