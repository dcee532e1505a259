import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Count, Max

import django_kpwa.models.source


def choose_the_first(apps, schema_editor):
    """The first license is the default until somebody chooses."""
    licenses = apps.get_model("django_kpwa", "License").objects.using(schema_editor.connection.alias)
    first = licenses.filter(is_active=True).order_by("pk").first()
    if first is not None:
        licenses.filter(pk=first.pk).update(is_default=True)


def give_a_license(apps, schema_editor):
    """On the way back: what is settled and has no license, or a deleted one, is the first one's. It was never sent."""
    using = schema_editor.connection.alias
    licenses = apps.get_model("django_kpwa", "License").objects.using(using)
    messages = apps.get_model("django_kpwa", "OutboundMessage").objects.using(using)
    first = licenses.order_by("pk").first()
    if first is not None:
        messages.exclude(license_id__in=licenses.order_by().values("pk")).update(license_id=first.pk)
        messages.filter(license_id=None).update(license_id=first.pk)


def count_failures_of_one(apps, schema_editor):
    """Of many failures of one receipt of one object the newest stays, and says how many they were."""
    failures = apps.get_model("django_kpwa", "ReceiptFailure").objects.using(schema_editor.connection.alias)
    one = ("receipt", "source_content_type", "source_id", "source_database")
    counted = failures.order_by().values(*one).annotate(count=Count("pk"), newest=Max("pk")).filter(count__gt=1)
    for found in list(counted):
        count, newest = found.pop("count"), found.pop("newest")
        failures.filter(pk=newest).update(times=count)
        failures.filter(**found).exclude(pk=newest).delete()


def forget_the_number_of_no_phone(apps, schema_editor):
    """The console and in-memory gateways gave one once: the first real phone would be another one."""
    lanes = apps.get_model("django_kpwa", "Lane").objects.using(schema_editor.connection.alias)
    for column in ("linked_number", "confirmed_number"):
        lanes.filter(**{column: "6280000000000"}).update(**{column: ""})


class Migration(migrations.Migration):
    dependencies = [("django_kpwa", "0001_initial")]

    operations = [
        migrations.AddField(
            "license", "archived_at", models.DateTimeField(editable=False, null=True, verbose_name="archived")
        ),
        migrations.AddField(
            "license",
            "is_default",
            models.BooleanField(
                db_default=False,
                default=False,
                help_text="This license sends the messages that name no license.",
                verbose_name="default",
            ),
        ),
        migrations.AlterField(
            "outboundmessage",
            "license",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="messages",
                to="django_kpwa.license",
                verbose_name="license",
            ),
        ),
        migrations.AddField(
            "outboundmessage",
            "renderings_begun",
            models.PositiveSmallIntegerField(db_default=0, default=0, verbose_name="times writing its text was started"),
        ),
        migrations.RunPython(choose_the_first, migrations.RunPython.noop),
        # Failures are counted in a row now, whatever each of them said.
        migrations.RemoveField("lane", "failure_cause"),
        migrations.AlterField(
            "sendattempt",
            "cause",
            models.CharField(
                blank=True,
                choices=[
                    ("", "none"),
                    ("not_connected", "no connection to the gateway"),
                    ("rate_limited", "the gateway asked to wait"),
                    ("refused", "the gateway refused the message"),
                    ("unauthorized", "the gateway refused the API key"),
                    ("turned_away", "rejected before reaching WhatsApp"),
                    ("server_error", "the gateway failed"),
                    ("timeout", "no answer in time"),
                    ("connection_lost", "the connection broke"),
                    ("bad_answer", "an answer that was not understood"),
                    ("worker_lost", "the worker stopped while sending"),
                    ("logged_out", "WhatsApp was logged out"),
                ],
                max_length=32,
                verbose_name="cause",
            ),
        ),
        migrations.AddField(
            "webhookevent",
            "content_encoding",
            models.CharField(
                blank=True, db_default="", default="", max_length=64, verbose_name="content encoding"
            ),
        ),
        migrations.CreateModel(
            name="SeenId",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("event_id", models.BigIntegerField()),
                ("message_id", models.BigIntegerField(null=True)),
                ("seen_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["seen_at"], name="kpwa_seen_at"),
                    models.Index(fields=["message_id"], name="kpwa_seen_message"),
                ],
            },
        ),
        # Compared exactly from here on, on MySQL and MariaDB too.
        migrations.AlterField(
            "outboundmessage",
            "source_id",
            django_kpwa.models.source.ExactCharField(blank=True, max_length=255, verbose_name="source id"),
        ),
        migrations.AlterField(
            "receiptfailure",
            "source_id",
            django_kpwa.models.source.ExactCharField(max_length=255, verbose_name="source id"),
        ),
        *(
            migrations.AddField(
                model,
                "source_database",
                django_kpwa.models.source.ExactCharField(
                    blank=True, db_default="", default="", max_length=100, verbose_name="source database"
                ),
            )
            for model in ("outboundmessage", "receiptfailure")
        ),
        migrations.AddField(
            "outboundmessage",
            "source_fingerprint",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                max_length=64,
                verbose_name="source fingerprint",
            ),
        ),
        migrations.CreateModel(
            name="KeptKey",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("digest", models.CharField(max_length=64)),
                ("message_id", models.BigIntegerField()),
                ("created_at", models.DateTimeField()),
                ("status", models.CharField(max_length=16)),
                ("source_fingerprint", models.CharField(blank=True, max_length=64)),
            ],
            options={
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=["digest"], name="kpwa_kept_once")],
            },
        ),
        migrations.AddField("outboundmessage", "changed_at", models.DateTimeField(null=True, verbose_name="changed")),
        migrations.AddField(
            "outboundmessage",
            "changed_words",
            models.CharField(
                blank=True, db_default="", default="", max_length=500, verbose_name="what was changed"
            ),
        ),
        migrations.AddField(
            "receiptfailure",
            "times",
            models.PositiveIntegerField(db_default=1, default=1, verbose_name="times"),
        ),
        migrations.RunPython(count_failures_of_one, migrations.RunPython.noop),
        migrations.AddConstraint(
            "receiptfailure",
            models.UniqueConstraint(
                fields=["receipt", "source_content_type", "source_id", "source_database"], name="kpwa_failure_once"
            ),
        ),
        migrations.RunPython(forget_the_number_of_no_phone, migrations.RunPython.noop),
        # Last, so that it is the first on the way back, before the column takes no NULL.
        migrations.RunPython(migrations.RunPython.noop, give_a_license),
    ]
