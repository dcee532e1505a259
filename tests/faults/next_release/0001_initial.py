from importlib import import_module

Migration = import_module("django_kpwa.migrations.0001_initial").Migration
