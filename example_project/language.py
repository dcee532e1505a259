"""Shows the admin in the user's language, and the till in the shop's language whatever the browser prefers."""

from django.conf import settings
from django.middleware.locale import LocaleMiddleware
from django.urls import reverse
from django.utils import translation


class AdminLanguageMiddleware(LocaleMiddleware):
    def process_request(self, request):
        if request.path.startswith(reverse("admin:index")):
            super().process_request(request)
        else:
            translation.activate(settings.LANGUAGE_CODE)
            request.LANGUAGE_CODE = translation.get_language()
