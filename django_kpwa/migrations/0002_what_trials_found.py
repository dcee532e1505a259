import django.db.models.deletion
from django.db import migrations, models


def choose_the_first(apps, schema_editor):
    """The first license is the default until somebody chooses."""
    licenses = apps.get_model("django_kpwa", "License").objects.using(schema_editor.connection.alias)
    first = licenses.filter(is_active=True).order_by("pk").first()
    if first is not None:
        licenses.filter(pk=first.pk).update(is_default=True)


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
                help_text="What names no license is sent by this one.",
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
            models.PositiveSmallIntegerField(db_default=0, default=0, verbose_name="times its text was begun"),
        ),
        migrations.RunPython(choose_the_first, migrations.RunPython.noop),
        # Failures are counted in a row now, whatever each of them said.
        migrations.RemoveField("lane", "failure_cause"),
    ]
