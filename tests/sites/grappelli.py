"""Settings of a site with django-grappelli's admin. Its pages need inline script and style, so no policy is sent."""

from tests.sites.stock import *  # noqa: F403
from tests.sites.stock import INSTALLED_APPS as _APPS
from tests.sites.stock import MIDDLEWARE as _MIDDLEWARE

ROOT_URLCONF = "tests.sites.grappelli_urls"
INSTALLED_APPS = ["grappelli", *_APPS]
MIDDLEWARE = [name for name in _MIDDLEWARE if name != "tests.sites.policy.StrictPolicyMiddleware"]
