"""Settings of a site with an unusual setup.

It has its own `AdminSite` instead of the default one, a path prefix, requests in transactions, and a REST framework
that refuses every request.
"""

from tests.sites.stock import *  # noqa: F403
from tests.sites.stock import DATABASES as _DATABASES
from tests.sites.stock import INSTALLED_APPS as _APPS

FORCE_SCRIPT_NAME = "/toko"
STATIC_URL = "static/"
WSGI_APPLICATION = "tests.sites.prefixed.application"
ROOT_URLCONF = "tests.sites.hostile_urls"
# No model registers itself, and there is no default admin site.
INSTALLED_APPS = [
    "django.contrib.admin.apps.SimpleAdminConfig" if name == "django.contrib.admin" else name for name in _APPS
]
DATABASES = {**_DATABASES, "default": {**_DATABASES["default"], "ATOMIC_REQUESTS": True}}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FileUploadParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.StaticHTMLRenderer"],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "0/day"},
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "ALLOWED_VERSIONS": ["9"],
    "EXCEPTION_HANDLER": "nothing.there",
    "FORMAT_SUFFIX_KWARG": "token",
}
