from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("django_kpwa", "0001_initial")]

    operations = []
