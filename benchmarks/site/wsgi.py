"""The site's web process: `gunicorn benchmarks.site.wsgi`."""

from django.core.wsgi import get_wsgi_application

from . import celery_app  # noqa: F401 - as the site's own __init__ would

application = get_wsgi_application()
