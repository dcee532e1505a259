"""The texts about whether a license sends: its pause reasons, and what else may keep it from sending."""

from __future__ import annotations

from dataclasses import replace

from django.utils.translation import gettext_lazy as _

from ..gateway import SessionTrouble
from ..models import PauseReason
from ..store.choosing import Unchosen
from .rows import (
    NOTHING_TO_DO,
    UNKNOWN_CODE,
    UPDATE,
    UPDATE_COMMAND,
    Condition,
    Help,
    PauseRow,
    Table,
    Tells,
    Tone,
    UnchosenRow,
)

_LINK = _("Link WhatsApp")
_CHECK = _("Check now")
_ENTER_KEY = _("Enter the key")
_KEY_COMMAND = "manage.py kpwa licenses set-key {name}"
_CONFIRM_COMMAND = "manage.py kpwa licenses confirm-number {name}"

PAUSES = Table[PauseRow](
    {
        PauseReason.UNAUTHORIZED: PauseRow(
            Tone.BAD,
            "✕",
            code=PauseReason.UNAUTHORIZED.value,
            label=_("Key refused"),
            meaning=_("The gateway does not accept the API key. Messages are kept."),
            advice=_("Enter the current key below; then they go out."),
            urgency=0,
            tells=Tells.LICENSE_STOPPED,
            help=Help.ENTER_KEY,
            help_label=_ENTER_KEY,
            counter=_("WhatsApp stopped because the API key is refused"),
            why=PauseReason.UNAUTHORIZED.label,
            command=f"Enter the current API key, in the admin or with: {_KEY_COMMAND}",
        ),
        PauseReason.KEY_UNREADABLE: PauseRow(
            Tone.BAD,
            "✕",
            code=PauseReason.KEY_UNREADABLE.value,
            label=_("Key unreadable"),
            meaning=_("The stored API key cannot be read: the site's own secret key was changed. Messages are kept."),
            advice=_("Enter the API key again below."),
            urgency=0,
            tells=Tells.LICENSE_STOPPED,
            help=Help.ENTER_KEY,
            help_label=_ENTER_KEY,
            counter=_("WhatsApp stopped because the API key cannot be read"),
            why=PauseReason.KEY_UNREADABLE.label,
            command=f"Put the secret key back into KPWA['SECRET_KEYS'], or enter the API key again: {_KEY_COMMAND}",
        ),
        PauseReason.NUMBER_CHANGED: PauseRow(
            Tone.BAD,
            "!",
            code=PauseReason.NUMBER_CHANGED.value,
            label=_("Another phone is linked"),
            meaning=_("A different phone is linked than before."),
            advice=_("Nothing is sent until somebody confirms which phone is the right one."),
            urgency=1,
            tells=Tells.LICENSE_STOPPED,
            help=Help.CONFIRM_NUMBER,
            help_label=_("Confirm this number"),
            counter=_("WhatsApp stopped because another phone is linked"),
            why=PauseReason.NUMBER_CHANGED.label,
            command=(
                f"If that is right: {_CONFIRM_COMMAND}. If not, link the previous phone again, then: "
                f"{_CONFIRM_COMMAND} --keep"
            ),
        ),
        PauseReason.LOGGED_OUT: PauseRow(
            Tone.BAD,
            "!",
            code=PauseReason.LOGGED_OUT.value,
            label=_("Needs a scan"),
            meaning=_("WhatsApp is logged out. Messages are kept."),
            advice=_("Press “Link WhatsApp” and scan the code with the shop's phone; then they go out."),
            urgency=1,
            tells=Tells.LICENSE_STOPPED,
            help=Help.LINK,
            help_label=_LINK,
            counter=_("WhatsApp logged out"),
            why=PauseReason.LOGGED_OUT.label,
            command="Scan the code again, in the admin or with: manage.py kpwa qr --license {name}",
        ),
        PauseReason.FAILING: PauseRow(
            Tone.BAD,
            "!",
            code=PauseReason.FAILING.value,
            label=_("Gateway unreachable"),
            meaning=_("The gateway cannot be reached, or keeps failing."),
            advice=_("Messages are kept, and the gateway is tried again automatically."),
            urgency=2,
            tells=Tells.LICENSE_STOPPED,
            help=Help.CHECK_STATUS,
            help_label=_CHECK,
            counter=_("WhatsApp cannot be reached"),
            why=PauseReason.FAILING.label,
            command="The gateway is tried again automatically; nothing is lost.",
        ),
        PauseReason.BY_PERSON: PauseRow(
            Tone.ATTENTION,
            "❚❚",
            code=PauseReason.BY_PERSON.value,
            label=_("Paused"),
            meaning=_("Somebody paused this license."),
            advice=_("Messages are kept until you press “Resume”."),
            urgency=3,
            help=Help.RESUME,
            help_label=_("Resume"),
            counter=_("WhatsApp paused"),
            why=_("a person paused it"),
            command="Resume it: manage.py kpwa licenses resume {name}",
        ),
        PauseReason.RATE_LIMITED: PauseRow(
            Tone.WAITING,
            "◷",
            code=PauseReason.RATE_LIMITED.value,
            label=_("The gateway asked to wait"),
            meaning=_("The gateway asked to wait."),
            advice=_("Sending continues automatically."),
            urgency=5,
            counter=_("WhatsApp is waiting for a moment"),
            why=PauseReason.RATE_LIMITED.label,
            command="Sending continues automatically.",
        ),
    },
    otherwise=PauseRow(
        Tone.BAD,
        "!",
        code="unknown",
        label="",
        meaning=UNKNOWN_CODE,
        advice=UPDATE,
        urgency=0,
        tells=Tells.LICENSE_STOPPED,
        counter=_("WhatsApp stopped"),
        why=_("it is paused"),
        command=UPDATE_COMMAND,
    ),
)

UNCHOSEN = Table[UnchosenRow](
    {
        Unchosen.NO_LICENSE: UnchosenRow(
            label=Unchosen.NO_LICENSE.label,
            advice=_("Add a license, and link WhatsApp."),
            command="Run: manage.py kpwa licenses add NAME",
            error="There is no license yet. Add one in the admin, or with `manage.py kpwa licenses add`.",
        ),
        Unchosen.NONE_ACTIVE: UnchosenRow(
            label=Unchosen.NONE_ACTIVE.label,
            advice=_("Open a license and tick “active”."),
            command="Run: manage.py kpwa licenses activate NAME",
            error="No license is active. Tick “active” on a license's page in the admin.",
        ),
        Unchosen.SEVERAL: UnchosenRow(
            label=Unchosen.SEVERAL.label,
            advice=_("Open the license that should send and tick “default”."),
            command="Run: manage.py kpwa licenses default NAME",
            error=(
                'Several licenses are active, and none is the default: pass license=…, tick "default" on a '
                'license\'s page in the admin, or name one in KPWA["DEFAULT_LICENSE"].'
            ),
        ),
        Unchosen.NAME_UNKNOWN: UnchosenRow(
            label=Unchosen.NAME_UNKNOWN.label,
            advice=_("Correct that setting, or give a license that name."),
            command="Correct that setting, or give a license that name.",
            error='KPWA["DEFAULT_LICENSE"] names {name!r}, and there is no license of that name.',
        ),
        Unchosen.NAMED_INACTIVE: UnchosenRow(
            label=Unchosen.NAMED_INACTIVE.label,
            advice=_("Open that license and tick “active”, or name another one in that setting."),
            command="Activate it, or name another one in that setting.",
            error='KPWA["DEFAULT_LICENSE"] names {name!r}, which is not active.',
        ),
    },
    otherwise=UnchosenRow(label="", advice=UPDATE, command=UPDATE_COMMAND, error=UPDATE_COMMAND),
)

# Conditions of a license that is not paused.
NO_KEY = Condition(
    Tone.BAD,
    "✕",
    code="no_key",
    label=_("No API key"),
    meaning=_("Nothing can be sent without an API key."),
    advice=_("Enter it below."),
    urgency=0,
    help=Help.ENTER_KEY,
    help_label=_ENTER_KEY,
    counter=_("WhatsApp has no API key yet"),
    command=f"Enter the API key: {_KEY_COMMAND}",
)
NEVER_LINKED = Condition(
    Tone.ATTENTION,
    "?",
    code="never_linked",
    label=_("Not linked yet"),
    meaning=_("WhatsApp is not linked yet."),
    advice=_("Press “Link WhatsApp” and scan the code with the shop's phone. Until then messages are kept."),
    urgency=4,
    help=Help.LINK,
    help_label=_LINK,
    counter=_("WhatsApp is not linked yet"),
    command="Scan the code with the shop's phone, in the admin or with: manage.py kpwa qr --license {name}",
)
NEW_KEY = Condition(
    Tone.WAITING,
    "◷",
    code="new_key",
    label=_("Trying the new key"),
    meaning=_("The previous key was refused."),
    advice=_("The new one is tried with the next message."),
    urgency=5,
)
NOT_SEEN = Condition(
    Tone.NEUTRAL,
    "?",
    code="not_seen",
    label=_("Not seen lately"),
    meaning=_("Nothing has been sent for a while."),
    advice=_("“Check status” shows whether the phone is still linked."),
    urgency=6,
    help=Help.CHECK_STATUS,
    help_label=_CHECK,
)
UNCLEAR = Condition(
    Tone.NEUTRAL,
    "?",
    code="unclear",
    label=_("Status unclear"),
    meaning=_("The gateway answers with a status that is not documented. Messages are tried all the same."),
    advice=_("Whether the phone is linked, the next message shows, or “Check status”."),
    urgency=6,
    help=Help.CHECK_STATUS,
    help_label=_CHECK,
)

_CHECK_COMMAND = "manage.py kpwa status --license {name}"

TROUBLES = Table[Condition](
    {
        SessionTrouble.PASSKEY: Condition(
            Tone.BAD,
            "!",
            code=SessionTrouble.PASSKEY.value,
            label=_("Passkey asked for"),
            meaning=_("WhatsApp asks the phone for a passkey before it links. Until then nothing goes out."),
            advice=_("“What to do then” has the steps, and a text for the gateway's support."),
            urgency=1,
            tells=Tells.LICENSE_STOPPED,
            help=Help.PASSKEY,
            help_label=_("What to do then"),
            counter=_("WhatsApp asks for a passkey"),
            command="See docs/linking.md, “A passkey”, and ask the gateway's support. Then: " + _CHECK_COMMAND,
        ),
        SessionTrouble.RESTRICTED: Condition(
            Tone.ATTENTION,
            "!",
            code=SessionTrouble.RESTRICTED.value,
            label=_("Number restricted"),
            meaning=_("WhatsApp restricts this number, the gateway says. Some messages, or all, are refused."),
            advice=_(
                "Wait: a restriction mostly ends after some days. Until then do not link the phone anew, and do not "
                "send to new customers. WhatsApp on the shop's phone may say until when."
            ),
            urgency=1,
            tells=Tells.LICENSE_STOPPED,
            help=Help.CHECK_STATUS,
            help_label=_CHECK,
            counter=_("WhatsApp restricts the shop's number"),
            command="Wait. Do not link it again, and do not send to new customers. Check again: " + _CHECK_COMMAND,
        ),
        SessionTrouble.BANNED: Condition(
            Tone.BAD,
            "✕",
            code=SessionTrouble.BANNED.value,
            label=_("Number banned"),
            meaning=_("The gateway says that this number is banned or blocked. Nothing goes out."),
            advice=_(
                "Open WhatsApp on the shop's phone, and ask for a review if it says so too. If it works there, ask "
                "the gateway's support."
            ),
            urgency=0,
            tells=Tells.LICENSE_STOPPED,
            help=Help.CHECK_STATUS,
            help_label=_CHECK,
            counter=_("The shop's number is banned or blocked at WhatsApp"),
            command="Ask for a review in WhatsApp on the phone, or ask the gateway's support. Then: " + _CHECK_COMMAND,
        ),
    },
    otherwise=replace(UNCLEAR, label=""),
)
"""Conditions for undocumented status words of the gateway, see `gateway.session_trouble_of()`."""

INACTIVE = Condition(
    Tone.NEUTRAL,
    "–",
    code="inactive",
    label=_("Not active"),
    meaning=_("Messages are accepted and kept."),
    advice=_("Nothing is sent until the license is active."),
    urgency=7,
    help=Help.ENTER_KEY,
    help_label=_("Open"),
)
CONNECTED = Condition(
    Tone.GOOD,
    "✓",
    code="connected",
    label=_("Connected"),
    meaning=_("Messages are sent automatically."),
    advice=NOTHING_TO_DO,
    urgency=8,
)


def what_to_do(reason: str, license_name: str) -> str:
    """Return what to do on the command line about a license that is paused for `reason`, in English."""
    return PAUSES[reason].command.format(name=quoted(license_name))


def quoted(name: str) -> str:
    """Return `name` as an argument of a command that a person copies: in quotes if it contains a space."""
    return f'"{name}"' if " " in name else name
