"""Gives a new shop something to sell."""

from django.db import migrations

from example_project.sales import catalogue


def fill(apps, schema_editor):
    catalogue.seed(apps.get_model("sales", "Product"))


class Migration(migrations.Migration):
    dependencies = [("sales", "0001_initial")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
