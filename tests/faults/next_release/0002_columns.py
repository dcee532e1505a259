from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("django_kpwa", "0001_initial")]

    # In the order in which workers lock them: lane, then messages.
    operations = [
        migrations.AddField("lane", "next_column", models.IntegerField(null=True)),
        migrations.AddField("outboundmessage", "next_column", models.CharField(max_length=20, null=True)),
        migrations.AddIndex("outboundmessage", models.Index(fields=["next_column"], name="kpwa_message_next")),
    ]
