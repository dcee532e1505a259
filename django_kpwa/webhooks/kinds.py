"""Finds the kind of a message that is more than a text (image, location, reaction, …), and the text in it."""

from __future__ import annotations

import re
from typing import Any

from .fields import WRAPPERS, Fields, as_text

# For each kind: the names of objects that hold such a message, and the words for a message's type.
_KINDS = {
    "image": "image imagemessage picture photo gif",
    "video": "video videomessage ptvmessage ptv",
    "voice": "voice ptt vn voicenote",
    "audio": "audio audiomessage",
    "document": "document documentmessage documentwithcaptionmessage file",
    "sticker": "sticker stickermessage lottiestickermessage",
    "location": "location locationmessage livelocation livelocationmessage locationmessagedata locationattached",
    "contact": (
        "contact contacts contactmessage contactsarraymessage contactcard contactlist contactmessagedata vcard vcards "
        "multivcard contactsarraymessagedata"
    ),
    "button": (
        "button reply buttonreply buttonsreply buttonsresponse buttonresponse buttonsresponsemessage "
        "templatebuttonreply templatebuttonreplymessage templatebuttonsreplymessage interactive interactiveresponse "
        "interactiveresponsemessage interactivebuttonsresponse hydratedbuttonsresponse"
    ),
    "list": "list listreply listresponse listresponsemessage",
    "reaction": "reaction reactionmessage encreactionmessage extendedtextmessagedatareaction",
    "poll": (
        "poll pollcreation pollcreationmessage pollcreationmessagev2 pollcreationmessagev3 pollmessage pollmessagedata"
    ),
    "poll_vote": "pollvote pollupdate pollupdatemessage pollupdatemessagedata vote",
    "edit": "editedmessage editedmessagedata messageedit edited edit editedcontent",
    "other": (
        "product productmessage order ordermessage groupinvite groupinvitemessage event eventmessage gift payment "
        "requestpayment sendpaymentmessage requestpaymentmessage unsupported"
    ),
}
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words.split()}
# These words count only as a message's type. An object of such a name may be anything, for example a quoted message.
_ONLY_AS_TYPE = {
    "unsupported",
    "event",
    "list",
    "edit",
    "edited",
    "file",
    "gift",
    "payment",
    "contacts",
    "vcards",
    "reply",
}
_OF_OBJECTS = tuple(word for word in _KIND_OF if word not in _ONLY_AS_TYPE)
_SET_OF_OBJECTS = frozenset(_OF_OBJECTS)
_TYPES = ("messagetype", "typemessage", "msgtype", "mediatype", "type")
_MIMES = ("mimetype", "mediamime", "mediamimetype", "mediacontenttype0", "filemimetype")
# Types of messages that no person wrote: deletions, notifications, call logs, key exchanges.
_NO_MESSAGES = {
    "revoked", "revoke", "deleted", "delete", "protocol", "protocolmessage", "senderkeydistributionmessage",
    "e2enotification", "notification", "notificationtemplate", "gp2", "calllog", "ciphertext", "broadcastnotification",
    "keepinchatmessage", "pininchatmessage", "system",
}  # fmt: skip
_TEXTS_IN = (
    "text", "caption", "selecteddisplaytext", "selectedbuttontext", "displaytext", "title", "message", "body", "name",
    "question", "pollname", "displayname", "formattedname", "fullname", "value", "emoji", "description", "address",
    "selectedid", "selectedbuttonid", "selectedrowid", "buttonid", "payload", "filename",
)  # fmt: skip
_LATITUDES, _LONGITUDES = ("degreeslatitude", "latitude", "lat"), ("degreeslongitude", "longitude", "lng", "lon")
_VCARD_NAME = re.compile(r"^FN[^:\r\n]{0,100}:([^\r\n]{1,200})", re.MULTILINE)
_MAX_TEXT = 65_536
_MAX_DEPTH = 3
_THUMBNAIL = re.compile(r"(?:/9j/|iVBOR)[A-Za-z0-9+/=]{50}")


class Content:
    """The kind, text and media URL of one event's message.

    `kind`: see `ParsedEvent.content`; empty for a plain text, and if there is no message.
    `is_no_message`: True if it is of a type that no person writes, such as a call log.
    """

    def __init__(self, fields: Fields) -> None:
        self.kind, held = _kind(fields)
        self.is_no_message = not self.kind and _type_word(fields) in _NO_MESSAGES
        text = fields.text
        if self.kind in ("location", "contact") and (_THUMBNAIL.match(text) or text.startswith("BEGIN:VCARD")):
            text = ""
        # In a reaction or an answer, the text of the chosen item takes precedence over the surrounding text.
        inner = _text_of(fields, held, self.kind) if held is not None else ""
        pressed = self.kind in ("reaction", "button", "list", "poll_vote")
        self.text = (inner or text) if pressed else (text or inner)
        self.media_url = fields.media_url

    @property
    def says_something(self) -> bool:
        """True if there is a message: a text, media or a kind."""
        return bool(self.text or self.media_url or self.kind)


def _kind(fields: Fields) -> tuple[str, Any]:
    """Return the kind, and the object that holds the message."""
    if _is_edit(fields):
        return "edit", None
    found: tuple[str, Any] = ("", None)
    for scope in fields.scopes:
        if scope.name not in _KIND_OF and scope.values.keys().isdisjoint(_SET_OF_OBJECTS):
            continue
        for name in _OF_OBJECTS:
            held = scope.values.get(name)
            if not _holds_something(name, held):
                if scope.name == name and scope.values:
                    held = scope.values
                else:
                    continue
            kind = _KIND_OF[name]
            if kind == "audio" and _is_voice(fields, held):
                kind = "voice"
            if kind == "button" and isinstance(held, dict) and any("list" in key.lower() for key in held):
                kind = "list"
            return kind, held
    if any(
        _is_new_kind(name, held)
        for scope in fields.scopes
        if scope.name == "message"
        for name, held in scope.values.items()
    ):
        return "other", None
    word = _type_word(fields)
    if word in _KIND_OF and word not in ("event", "edit"):
        found = (_KIND_OF[word], fields.value(word))
    if not found[0]:
        found = (_by_mime(fields), None)
    if not found[0] and fields.value("hasmedia") is True:
        found = ("document", None)
    return found


def _is_new_kind(name: str, held: Any) -> bool:
    """True for a type of message that is unknown to this code, because it is newer. It must count as a message."""
    known = name in _KIND_OF or name in _NO_MESSAGES or name in WRAPPERS or name == "extendedtextmessage"
    return isinstance(held, dict) and bool(held) and name.endswith("message") and not known


def _is_edit(fields: Fields) -> bool:
    words = fields.event_words
    if {"edited", "edit"} & words and ({"message", "messages"} & words):
        return True
    names = {scope.name for scope in fields.scopes}
    if names & {"editedmessage", "editedmessagedata"}:
        return True
    action = fields.value("action")
    return _type_word(fields) == "edit" or (isinstance(action, dict) and action.get("type") == "edit")


def _holds_something(name: str, held: Any) -> bool:
    if isinstance(held, dict):
        return any(item not in (None, "", [], {}) for item in held.values())
    if isinstance(held, list):
        return bool(held) and name in ("contacts", "vcards", "contactlist")
    if name == "location" and isinstance(held, str):
        return bool(re.fullmatch(r"-?\d{1,3}\.\d{1,20}\s?,\s?-?\d{1,3}\.\d{1,20}", held.strip()[:60]))
    return name in ("reaction", "vcard", "sticker", "voice", "image", "audio", "video", "document") and (
        isinstance(held, str) and bool(held) and held not in ("null", "false", "true")
    )


def _is_voice(fields: Fields, held: Any) -> bool:
    flag = held.get("ptt", held.get("PTT")) if isinstance(held, dict) else fields.value("ptt")
    return flag is True or str(flag).lower() == "true"


def _type_word(fields: Fields) -> str:
    """Return the word for the message's type, not the event's type, which may have the same name further out."""
    for scope in fields.scopes:
        for name in _TYPES:
            value = scope.values.get(name)
            if isinstance(value, str) and value:
                word = re.sub(r"[^a-z0-9]", "", value[:60].lower())
                if word in _KIND_OF or word in _NO_MESSAGES:
                    return word
    return ""


def _by_mime(fields: Fields) -> str:
    mime = next(fields.texts(_MIMES), "").lower()
    for kind in ("image", "video", "audio"):
        if mime.startswith(f"{kind}/"):
            return "sticker" if mime == "image/webp" else kind
    return "document" if re.match(r"(?:application|text)/[\w.+-]{1,80}", mime) else ""


def _text_of(fields: Fields, held: Any, kind: str, depth: int = 0) -> str:
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(held, list):
        names = [_text_of(fields, item, kind, depth + 1) for item in held[:20] if isinstance(item, (dict, str))]
        return ", ".join(name for name in names if name)[:_MAX_TEXT]
    if isinstance(held, str):
        name = _VCARD_NAME.search(held[:5000]) if kind == "contact" else None
        if name is not None:
            return name[1].strip()
        return held.strip() if kind in ("location", "reaction") else ""
    if not isinstance(held, dict):
        return ""
    inner = fields.renamed(held)
    if kind == "location":
        return _place(inner)
    if kind in ("image", "video", "audio", "voice", "sticker"):
        return as_text(inner.get("caption"))
    if kind == "contact":
        card = next((text for name in ("vcard", "displayname") if (text := as_text(inner.get(name)))), "")
        name = _VCARD_NAME.search(card[:5000])
        many = inner.get("contacts") or inner.get("list")
        if name is None and not inner.get("displayname") and isinstance(many, list):
            return _text_of(fields, many, kind, depth + 1)
        if name is not None and not inner.get("displayname"):
            return name[1].strip()
    found = next((text for name in _TEXTS_IN if (text := as_text(inner.get(name)))), "")
    if found and not (kind in ("button", "list") and found == as_text(inner.get("id"))):
        return found
    deeper = (_text_of(fields, item, kind, depth + 1) for item in inner.values() if isinstance(item, dict))
    options = inner.get("options") or inner.get("selectedoptions")
    return next((text for text in deeper if text), "") or (
        _text_of(fields, options, kind, depth + 1) if isinstance(options, list) else found
    )


def _place(inner: dict[str, Any]) -> str:
    words = [text for name in ("name", "namelocation", "description", "address") if (text := as_text(inner.get(name)))]
    if words:
        return ", ".join(dict.fromkeys(words))
    numbers = [
        next((text for name in names if (text := as_text(inner.get(name)))), "") for names in (_LATITUDES, _LONGITUDES)
    ]
    return ",".join(numbers) if all(numbers) else ""
