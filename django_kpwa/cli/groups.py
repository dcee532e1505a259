"""`kpwa groups`: creates Django groups for the two roles of a shop, with the permissions that each needs.

Permissions are only added to a group that exists; those that the site gave it stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from ..words import Words
from .console import EXIT_NO, EXIT_OK, Console, Subcommand

if TYPE_CHECKING:
    from django.contrib.auth.models import Group

_APP = "django_kpwa"
_LANGUAGES = ("en", "id")
"""The languages in which a group of an earlier run may have been named, besides the site's."""


@dataclass(frozen=True)
class Role:
    """A role of a shop's staff. `codenames`: the permissions of this app that its group gets; empty for all of them.

    `may`: completes the sentence "People in it may …".
    """

    key: str
    name: Words
    codenames: frozenset[str]
    may: str

    @property
    def names(self) -> list[str]:
        """The group's name in the site's language, then in the other languages."""
        found = []
        for language in (settings.LANGUAGE_CODE, *_LANGUAGES):
            with translation.override(language):
                found.append(str(self.name))
        return list(dict.fromkeys(found))


ROLES = (
    Role(
        "cashier",
        _("WhatsApp: cashier"),
        frozenset({"view_outboundmessage", "decide_outboundmessage", "add_outboundmessage"}),
        may="see messages, decide about them, and send a receipt again or to another number",
    ),
    Role("owner", _("WhatsApp: owner"), frozenset(), may="do everything in this app, API keys and linking included"),
)


def _run(console: Console, options: dict[str, Any]) -> int:
    if not apps.is_installed("django.contrib.auth"):
        raise CommandError("There are no groups without django.contrib.auth in INSTALLED_APPS.", returncode=EXIT_NO)
    document = []
    for role in ROLES:
        group, is_new, added = _make(role)
        document.append({"role": role.key, "name": group.name, "created": is_new, "permissions_added": added})
        done = "created" if is_new else f"{len(added)} permissions added" if added else "nothing to change"
        console.report(f"{group.name}: {done}. People in it may {role.may}.")
    console.report(
        "Add people to them in the admin, where only those with “staff status” can log in. To see previews of "
        "receipts, people also need the permission to view your own models."
    )
    console.document(document)
    return EXIT_OK


def _make(role: Role) -> tuple[Group, bool, list[str]]:
    """Return the group of `role`, whether it was created now, and the codenames of the permissions that it lacked."""
    from django.contrib.auth.models import Group, Permission

    wanted = Permission.objects.filter(content_type__app_label=_APP)
    if role.codenames:
        wanted = wanted.filter(codename__in=role.codenames)
    permissions = {permission.codename: permission for permission in wanted}
    if not permissions or role.codenames - set(permissions):
        raise CommandError("The app's permissions are not in the database yet: run migrate first.", returncode=EXIT_NO)
    known = {group.name: group for group in Group.objects.filter(name__in=role.names)}
    group = next((known[name] for name in role.names if name in known), None)
    is_new = group is None
    if group is None:
        group, _created = Group.objects.get_or_create(name=role.names[0])
    has = set(group.permissions.values_list("pk", flat=True))
    added = [codename for codename, permission in sorted(permissions.items()) if permission.pk not in has]
    group.permissions.add(*(permissions[codename] for codename in added))
    return group, is_new, added


GROUPS = Subcommand("create groups of users for the cashier and the owner", lambda parser: None, _run)
