"""URLs of a site that puts all of them behind a language."""

from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path

urlpatterns = i18n_patterns(path("kpwa/", include("django_kpwa.urls", namespace="wa")))
