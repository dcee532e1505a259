from datetime import timedelta

from django.db import migrations, models
from django.db.models import F


def keep_when_scheduled_ones_are_due(apps, schema_editor):
    """Of the messages that wait, only one that was scheduled has its first due time elsewhere than in `created_at`."""
    messages = apps.get_model('django_kpwa', 'OutboundMessage').objects.using(schema_editor.connection.alias)
    scheduled = messages.filter(status='queued', renderer='', attempts_made=0)
    scheduled.filter(due_at__gt=F('created_at') + timedelta(minutes=1)).update(first_due_at=F('due_at'))


class Migration(migrations.Migration):

    dependencies = [
        ('django_kpwa', '0005_the_number_survives'),
    ]

    operations = [
        migrations.AddField(
            model_name='outboundmessage',
            name='first_due_at',
            field=models.DateTimeField(null=True, verbose_name='first due'),
        ),
        migrations.RunPython(keep_when_scheduled_ones_are_due, migrations.RunPython.noop, elidable=True),
    ]
