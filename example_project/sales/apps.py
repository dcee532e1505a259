from django.apps import AppConfig


class SalesConfig(AppConfig):
    name = "example_project.sales"
    label = "sales"
    verbose_name = "Penjualan"
