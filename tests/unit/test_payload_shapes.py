"""The payloads of related gateways, each as it is posted, with its correct reading.

Names and nesting come from the gateways' own documentation and from bug reports: Baileys and Evolution API,
whatsapp-web.js and WAHA, whatsmeow (wuzapi, go-whatsapp), Fonnte, Wablas and other providers for shops.
"""

from __future__ import annotations

import gzip
import json
import zlib
from urllib.parse import urlencode

import pytest

from django_kpwa.models import EventKind
from django_kpwa.webhooks import DefaultParser
from django_kpwa.webhooks.parsers import Unread

SHOP = "6281100000001"
CUSTOMER = "6281234567890"
PN = f"{CUSTOMER}@s.whatsapp.net"
US = f"{CUSTOMER}@c.us"
LID = "98765432101234@lid"
GROUP = "120363041234567890@g.us"
INCOMING, OWN, STATE, SESSION = (
    kind.value for kind in (EventKind.INCOMING, EventKind.OWN, EventKind.STATE, EventKind.SESSION)
)


def parse_all(payload, content_type="application/json", linked_number=SHOP, **header):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return DefaultParser().parse(body, content_type, linked_number=linked_number, **header)


def evolution(message, event="messages.upsert", from_me=False, jid=PN, **data):
    """Evolution API. It also sends `data.status` with a customer's message. `sender` is the linked phone."""
    key = {"remoteJid": jid, "fromMe": from_me, "id": "A1", **data.pop("key", {})}
    more = {"pushName": "Budi", "status": "DELIVERY_ACK", "messageTimestamp": 1764200000, "source": "android"}
    return {
        "event": event,
        "instance": "toko",
        "data": {"key": key, "message": message, **more, **data},
        "destination": "https://shop.example/hook",
        "date_time": "2026-11-27T10:00:00.000Z",
        "sender": f"{SHOP}@s.whatsapp.net",
        "server_url": "http://localhost:8080",
        "apikey": "x",
    }


def waha(event, **payload):
    """WAHA. The envelope has its own id."""
    me = {"id": f"{SHOP}@c.us", "pushName": "Toko"}
    return {
        "id": "evt_01",
        "timestamp": 1764200000000,
        "session": "default",
        "me": me,
        "event": event,
        "payload": payload,
    }


def waha_message(event="message", from_me=False, **payload):
    common = {"id": f"{str(from_me).lower()}_{US}_A1", "timestamp": 1764200000, "fromMe": from_me, "from": US}
    return waha(event, **common, to=f"{SHOP}@c.us", **payload)


def wuzapi(type_="Message", message=None, **info):
    common = {"Chat": PN, "Sender": f"{CUSTOMER}:12@s.whatsapp.net", "IsFromMe": False, "IsGroup": False, "ID": "A1"}
    event = {"Info": {**common, "PushName": "Budi", "Type": "text", **info}, "Message": message}
    return {"type": type_, "event": event, "instanceName": "toko", "userID": "u1"}


def go_whatsapp(event, **payload):
    common = {"chat_id": PN, "from": PN, "from_name": "Budi", "timestamp": "2026-11-27T10:00:00Z", "is_from_me": False}
    return {"event": event, "device_id": f"{SHOP}@s.whatsapp.net", "payload": {**common, **payload}}


def fonnte(message="", **more):
    common = {"quick": False, "device": SHOP, "pesan": message, "sender": CUSTOMER, "message": message, "name": "Budi"}
    return {**common, "member": "", "location": "", "url": "", "inboxid": "A1", "timestamp": 1764200000, **more}


def wablas(message="halo", **more):
    common = {"id": "A1", "pushName": "Budi", "isGroup": False, "message": message, "phone": CUSTOMER, "sender": SHOP}
    return {**common, "messageType": "text", "isFromMe": False, "deviceId": "D1", "file": "", "mimeType": None, **more}


def z_api(type_="ReceivedCallback", **more):
    common = {"phone": CUSTOMER, "fromMe": False, "messageId": "A1", "momment": 1764200000000, "instanceId": "I1"}
    return {**common, "status": "RECEIVED", "connectedPhone": SHOP, "isGroup": False, "type": type_, **more}


def green(type_="incomingMessageReceived", **message):
    data = {"instanceData": {"idInstance": 1, "wid": f"{SHOP}@c.us"}, "timestamp": 1764200000, "idMessage": "A1"}
    sender = {"chatId": US, "sender": US, "chatName": "Budi"}
    return {"typeWebhook": type_, **data, "senderData": sender, "messageData": message}


def whapi(**message):
    common = {"id": "A1", "from_me": False, "chat_id": PN, "from": CUSTOMER, "timestamp": 1764200000}
    return {"messages": [{**common, **message}], "event": {"type": "messages", "event": "post"}, "channel_id": "C1"}


def cloud(**value):
    metadata = {"display_phone_number": SHOP, "phone_number_id": "1"}
    change = {"value": {"messaging_product": "whatsapp", "metadata": metadata, **value}, "field": "messages"}
    return {"object": "whatsapp_business_account", "entry": [{"id": "0", "changes": [change]}]}


def web_js(data_type, message, **data):
    return {"dataType": data_type, "data": {"message": message, **data}, "sessionId": "toko"}


def web_js_message(from_me=False, **more):
    id_ = {"fromMe": from_me, "remote": US, "id": "A1", "_serialized": f"{str(from_me).lower()}_{US}_A1"}
    sides = {"from": f"{SHOP}@c.us", "to": US} if from_me else {"from": US, "to": f"{SHOP}@c.us"}
    return {"id": id_, "ack": 1, "hasMedia": False, "body": "halo", "type": "chat", "fromMe": from_me, **sides, **more}


def customer(text="halo", content="text", sender=CUSTOMER, **more):
    return {"kind": INCOMING, "sender": sender, "text": text, "content": content, "id": "A1", **more}


def state(word, **more):
    return {"kind": STATE, "state": word, "id": "A1", **more}


def session(word):
    return {"kind": SESSION, "session_status": word, "id": ""}


def own(text="Struk 17", **more):
    return {"kind": OWN, "recipient": CUSTOMER, "text": text, "id": "A1", **more}


VCARD = "BEGIN:VCARD\nVERSION:3.0\nN:Santoso;Budi\nFN:Budi Santoso\nTEL:+62 812\nEND:VCARD"
PAYLOADS = {
    # Texts
    "evolution text": (evolution({"conversation": "halo"}), customer()),
    "evolution extended text": (evolution({"extendedTextMessage": {"text": "halo", "contextInfo": {"quotedMessage": {"conversation": "lain"}}}}), customer()),
    "evolution in capitals": (evolution({"conversation": "halo"}, event="MESSAGES_UPSERT"), customer()),
    "baileys": ({"type": "notify", "messages": [{"key": {"remoteJid": PN, "fromMe": False, "id": "A1"}, "message": {"conversation": "halo"}}]}, customer()),
    "waha text": (waha_message(body="halo", hasMedia=False, ack=1, ackName="SERVER"), customer()),
    "waha any": (waha_message("message.any", body="halo"), customer()),
    "whatsapp-web.js api": (web_js("message", web_js_message()), customer()),
    "wuzapi text": (wuzapi(message={"conversation": "halo"}), customer()),
    "wuzapi form": (urlencode({"jsonData": json.dumps(wuzapi(message={"conversation": "halo"})), "token": "t"}).encode(), customer()),
    "go-whatsapp text": (go_whatsapp("message", id="A1", body="halo"), customer()),
    "go-whatsapp of old": ({"sender_id": CUSTOMER, "chat_id": CUSTOMER, "from": PN, "message": {"text": "halo", "id": "A1", "replied_id": ""}, "pushname": "Budi"}, customer()),
    "fonnte text": (fonnte("halo"), customer()),
    "wablas text": (wablas(), customer()),
    "z-api text": (z_api(text={"message": "halo"}), customer()),
    "green-api text": (green(typeMessage="textMessage", textMessageData={"textMessage": "halo"}), customer()),
    "green-api extended text": (green(typeMessage="extendedTextMessage", extendedTextMessageData={"text": "halo"}), customer()),
    "whapi text": (whapi(type="text", text={"body": "halo"}), customer()),
    "cloud api text": (cloud(contacts=[{"profile": {"name": "Budi"}, "wa_id": CUSTOMER}], messages=[{"from": CUSTOMER, "id": "A1", "timestamp": "1764200000", "type": "text", "text": {"body": "halo"}}]), customer()),
    "ultramsg text": ({"event_type": "message_received", "instanceId": "1", "id": "", "data": {"id": "A1", "from": US, "to": f"{SHOP}@c.us", "ack": "", "type": "chat", "body": "halo", "fromMe": False, "self": False}}, customer()),
    "chat-api text": ({"messages": [{"id": "A1", "body": "halo", "fromMe": 0, "author": US, "chatId": US, "type": "chat", "time": 1764200000}], "instanceId": "1"}, customer()),
    "wppconnect text": ({"event": "onmessage", "session": "toko", "id": "A1", "body": "halo", "type": "chat", "t": 1764200000, "from": US, "to": f"{SHOP}@c.us", "self": "in", "fromMe": False, "sender": {"id": US, "isMe": False}, "chatId": US}, customer()),
    "wassenger text": ({"id": "evt", "event": "message:in:new", "device": {"id": "d", "phone": f"+{SHOP}"}, "data": {"id": "A1", "type": "text", "flow": "inbound", "status": "active", "ack": "delivered", "fromNumber": f"+{CUSTOMER}", "from": US, "to": f"{SHOP}@c.us", "body": "halo"}}, customer()),
    "maytapi text": ({"product_id": "p", "phone_id": 1, "message": {"type": "text", "text": "halo", "id": "A1", "fromMe": False}, "user": {"id": US, "name": "Budi", "phone": CUSTOMER}, "conversation": US, "receiver": SHOP, "timestamp": 1764200000, "type": "message"}, customer()),
    "watzap text": ({"type": "incoming_chat", "data": {"chat_id": US, "message_id": "A1", "name": "Budi", "message_body": "halo", "message_ack": "PENDING", "is_from_me": False}}, customer()),
    "wati text": ({"id": "x", "eventType": "message", "whatsappMessageId": "A1", "text": "halo", "type": "text", "waId": CUSTOMER, "owner": False, "statusString": "SENT"}, {**customer(), "id": None}),
    "gupshup text": ({"app": "toko", "type": "message", "payload": {"id": "A1", "source": CUSTOMER, "type": "text", "payload": {"text": "halo"}, "sender": {"phone": CUSTOMER}}}, customer()),
    "twilio form": (urlencode({"MessageSid": "SM1", "From": f"whatsapp:+{CUSTOMER}", "To": f"whatsapp:+{SHOP}", "Body": "halo", "NumMedia": "0", "SmsStatus": "received"}).encode(), {**customer(), "id": None}),
    # Chats whose number is hidden
    "hidden, with its number beside": (evolution({"conversation": "halo"}, jid=LID, key={"remoteJidAlt": PN}), customer(chat=LID)),
    "hidden, by senderPn": (evolution({"conversation": "halo"}, jid=LID, key={"senderPn": PN}), customer(chat=LID)),
    "hidden, by senderPhone": ({"from": LID, "senderPhone": f"+{CUSTOMER}", "sender": SHOP, "fromMe": False, "id": "A1", "message": "halo"}, customer(chat=LID)),
    "hidden, no number at all": (evolution({"conversation": "halo"}, jid=LID), customer(sender="", chat=LID)),
    "hidden, with chat_id": (go_whatsapp("message", id="A1", body="halo", **{"from": LID}), customer(chat=LID)),
    "hidden, wuzapi": (wuzapi(message={"conversation": "halo"}, Chat=LID, Sender=LID, SenderAlt=PN), customer(chat=LID)),
    "hidden member of a group": (evolution({"conversation": "halo"}, jid=GROUP, key={"participant": LID, "participantAlt": PN}), customer(chat=GROUP)),
    "hidden member, participantPn": (evolution({"conversation": "halo"}, jid=GROUP, key={"participant": LID, "participantPn": PN}), customer(chat=GROUP)),
    "go-whatsapp in a group": (go_whatsapp("message", id="A1", body="halo", chat_id=GROUP, **{"from": f"{PN} in {GROUP}"}), customer(chat=GROUP)),
    # More than text
    "voice": (evolution({"audioMessage": {"ptt": True, "seconds": 4, "mimetype": "audio/ogg; codecs=opus", "url": "https://mmg.whatsapp.net/v/x.enc"}}), customer("", "voice", media_url="")),
    "music": (evolution({"audioMessage": {"ptt": False, "mimetype": "audio/mpeg"}}), customer("", "audio")),
    "sticker": (evolution({"stickerMessage": {"mimetype": "image/webp"}}), customer("", "sticker")),
    "picture without an address": (evolution({"imageMessage": {"mimetype": "image/jpeg", "caption": "bukti"}}), customer("bukti", "image", media_url="")),
    "picture without anything": (evolution({"imageMessage": {"mimetype": "image/jpeg"}}), customer("", "image")),
    "video": (evolution({"videoMessage": {"caption": "lihat"}}), customer("lihat", "video")),
    "place": (evolution({"locationMessage": {"degreesLatitude": -6.2, "degreesLongitude": 106.8, "name": "Toko", "address": "Jl. Braga"}}), customer("Toko, Jl. Braga", "location")),
    "place without a name": (evolution({"locationMessage": {"degreesLatitude": -6.25, "degreesLongitude": 106.8}}), customer("-6.25,106.8", "location")),
    "contact": (evolution({"contactMessage": {"displayName": "Budi Santoso", "vcard": VCARD}}), customer("Budi Santoso", "contact")),
    "contacts": (evolution({"contactsArrayMessage": {"displayName": "2 kontak", "contacts": [{"displayName": "A"}]}}), customer("2 kontak", "contact")),
    "button": (evolution({"buttonsResponseMessage": {"selectedButtonId": "b1", "selectedDisplayText": "Ya"}}), customer("Ya", "button")),
    "template button": (evolution({"templateButtonReplyMessage": {"selectedId": "b1", "selectedDisplayText": "Ya"}}), customer("Ya", "button")),
    "list": (evolution({"listResponseMessage": {"title": "Kopi", "singleSelectReply": {"selectedRowId": "r1"}}}), customer("Kopi", "list")),
    "reaction": (evolution({"reactionMessage": {"text": "👍", "key": {"id": "OTHER", "fromMe": True, "remoteJid": PN}}}), customer("👍", "reaction")),
    "poll": (evolution({"pollCreationMessageV3": {"name": "Rasa apa?", "options": [{"optionName": "Manis"}]}}), customer("Rasa apa?", "poll")),
    "poll vote": (evolution({"pollUpdateMessage": {"pollCreationMessageKey": {"id": "OTHER"}, "vote": {"encPayload": "x"}}}), customer("", "poll_vote")),
    "edit": (evolution({"protocolMessage": {"key": {"id": "OTHER", "fromMe": False, "remoteJid": PN}, "type": "MESSAGE_EDIT", "editedMessage": {"conversation": "halo lagi"}}}), customer("halo lagi", "edit")),
    "edit, wrapped": (evolution({"editedMessage": {"message": {"protocolMessage": {"key": {"id": "OTHER"}, "type": 14, "editedMessage": {"extendedTextMessage": {"text": "halo lagi"}}}}}}), customer("halo lagi", "edit")),
    "disappearing chat": (evolution({"ephemeralMessage": {"message": {"extendedTextMessage": {"text": "halo"}}}}), customer()),
    "view once": (evolution({"viewOnceMessageV2": {"message": {"imageMessage": {"caption": "rahasia"}}}}), customer("rahasia", "image")),
    "document with a caption": (evolution({"documentWithCaptionMessage": {"message": {"documentMessage": {"fileName": "bukti.pdf", "caption": "bukti bayar"}}}}), customer("bukti bayar", "document")),
    "document": (evolution({"documentMessage": {"fileName": "bukti.pdf", "title": "bukti.pdf"}}), customer("bukti.pdf", "document")),
    "something that WhatsApp learns next year": (evolution({"hologramMessage": {"size": 3}}), customer("", "other")),
    "waha voice": (waha_message(body="", hasMedia=True, media={"url": None, "mimetype": "audio/ogg"}, type="ptt"), customer("", "voice")),
    "waha place": (waha_message(body="/9j/" + "A" * 200, hasMedia=False, location={"description": "Jl. Braga", "latitude": "-6.2", "longitude": "106.8"}), customer("Jl. Braga", "location")),
    "waha reaction": (waha_message("message.reaction", reaction={"text": "🙏", "messageId": f"true_{US}_OTHER"}), customer("🙏", "reaction")),
    "waha file": (waha_message(body="", hasMedia=True, media={"url": "https://waha.example/f.pdf", "mimetype": "application/pdf"}), customer("", "document", media_url="https://waha.example/f.pdf")),
    "whatsapp-web.js contact": (web_js("message", web_js_message(type="vcard", body=VCARD)), customer(content="contact", text=None)),
    "wuzapi voice": (wuzapi(message={"audioMessage": {"PTT": True}}, Type="media", MediaType="ptt"), customer("", "voice")),
    "go-whatsapp sticker": (go_whatsapp("message", id="A1", sticker="statics/media/a.webp"), customer("", "sticker")),
    "go-whatsapp picture": (go_whatsapp("message", id="A1", image={"media_path": "statics/a.jpe", "mime_type": "image/jpeg", "caption": "bukti"}), customer("bukti", "image")),
    "go-whatsapp reaction": (go_whatsapp("message.reaction", id="A1", reaction="👍", reacted_message_id="OTHER"), customer("👍", "reaction")),
    "fonnte place": (fonnte("", location="-6.2088,106.8456"), customer("-6.2088,106.8456", "location")),
    "fonnte file": (fonnte("non-text message", url="https://fonnte.example/a.jpg", extension="jpg"), customer("non-text message", None, media_url="https://fonnte.example/a.jpg")),
    "wablas picture": (wablas("bukti", messageType="image", file="https://wablas.example/a.jpg", mimeType="image/jpeg"), customer("bukti", "image", media_url="https://wablas.example/a.jpg")),
    "z-api voice": (z_api(audio={"ptt": True, "seconds": 3, "audioUrl": "https://z.example/a.ogg"}), customer("", "voice", media_url="https://z.example/a.ogg")),
    "z-api button": (z_api(buttonsResponseMessage={"buttonId": "1", "message": "Ya"}), customer("Ya", "button")),
    "green-api picture": (green(typeMessage="imageMessage", fileMessageData={"downloadUrl": "https://g.example/a.jpg", "caption": "bukti", "mimeType": "image/jpeg"}), customer("bukti", "image", media_url="https://g.example/a.jpg")),
    "whapi voice": (whapi(type="voice", voice={"id": "v", "mime_type": "audio/ogg"}), customer("", "voice")),
    "whapi list answer": (whapi(type="reply", reply={"type": "list_reply", "list_reply": {"id": "r1", "title": "Kopi"}}), customer("Kopi", None)),
    "cloud api button": (cloud(messages=[{"from": CUSTOMER, "id": "A1", "type": "button", "button": {"payload": "p", "text": "Ya"}}]), customer("Ya", "button")),
    "cloud api list": (cloud(messages=[{"from": CUSTOMER, "id": "A1", "type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "r1", "title": "Kopi"}}}]), customer("Kopi", "list")),
    "cloud api picture": (cloud(messages=[{"from": CUSTOMER, "id": "A1", "type": "image", "image": {"id": "i", "mime_type": "image/jpeg", "caption": "bukti"}}]), customer("bukti", "image")),
    # States
    "evolution update": ({"event": "messages.update", "instance": "toko", "data": {"keyId": "A1", "messageId": "cm1", "remoteJid": PN, "fromMe": True, "status": "READ"}, "sender": f"{SHOP}@s.whatsapp.net"}, state("read", others=["cm1"])),
    "baileys update": ({"event": "messages.update", "data": [{"key": {"remoteJid": PN, "id": "A1", "fromMe": True}, "update": {"status": 3}}]}, state("delivered")),
    "baileys update, read": ([{"key": {"remoteJid": PN, "id": "A1", "fromMe": True}, "update": {"status": 4}}], state("read")),
    "baileys, an error": ({"event": "messages.update", "data": [{"key": {"remoteJid": PN, "id": "A1", "fromMe": True}, "update": {"status": 0, "messageStubParameters": ["463"]}}]}, state("failed", state_words="463")),
    "baileys receipt": ({"event": "message-receipt.update", "data": [{"key": {"remoteJid": PN, "id": "A1", "fromMe": True}, "receipt": {"userJid": PN, "readTimestamp": 1764200000}}]}, state("read")),
    "waha ack": (waha("message.ack", id=f"true_{US}_A1", **{"from": f"{SHOP}@c.us", "to": US, "fromMe": True, "ack": 3, "ackName": "READ"}), state("read", id=f"true_{US}_A1", others=["A1"])),
    "whatsapp-web.js ack": (web_js("message_ack", web_js_message(True), ack=3), state("read", id=f"true_{US}_A1", others=["A1"])),
    "wppconnect ack": ({"event": "onack", "session": "toko", "id": {"fromMe": True, "remote": US, "id": "A1", "_serialized": f"true_{US}_A1"}, "body": "Struk 17", "type": "chat", "ack": 2, "from": f"{SHOP}@c.us", "to": US}, state("delivered", id=f"true_{US}_A1")),
    "wuzapi read": ({"type": "ReadReceipt", "event": {"MessageIDs": ["A1"], "Chat": PN, "Sender": PN, "IsFromMe": False, "Type": "read"}, "state": "Read"}, state("read")),
    "wuzapi delivered": ({"type": "ReadReceipt", "event": {"MessageIDs": ["A1"], "Chat": PN, "Sender": PN, "IsFromMe": False, "Type": ""}, "state": "Delivered"}, state("delivered")),
    "whatsmeow delivered, no word at all": ({"type": "ReadReceipt", "event": {"MessageIDs": ["A1"], "Chat": PN, "Sender": PN, "IsFromMe": False, "Type": ""}}, state("delivered")),
    "go-whatsapp ack": ({"event": "message.ack", "payload": {"chat_id": PN, "from": PN, "ids": ["A1"], "receipt_type": "read"}}, state("read")),
    "state in the event's name": ({"event": "message.delivered", "data": {"id": "A1", "to": CUSTOMER}}, state("delivered")),
    "state in a name of another kind": ({"event": "message_read", "message_id": "A1", "phone": CUSTOMER}, state("read")),
    "wati delivered": ({"eventType": "sentMessageDELIVERED_v2", "whatsappMessageId": "A1", "statusString": "Delivered", "waId": CUSTOMER}, state("delivered")),
    "the farther of two": ({"device": SHOP, "id": "A1", "stateid": "3EB0", "status": "sent", "state": "read"}, state("read", others=["3EB0"])),
    "fonnte by stateid": ({"device": SHOP, "stateid": "A1", "state": "delivered"}, state("delivered")),
    "wablas tracking": ({"id": "A1", "phone": CUSTOMER, "status": "delivered", "note": "", "sender": SHOP, "deviceId": "D1"}, state("delivered")),
    "z-api state": ({"status": "READ", "ids": ["A1"], "momment": 1764200000000, "phone": CUSTOMER, "type": "MessageStatusCallback"}, state("read")),
    "green-api state": ({"typeWebhook": "outgoingMessageStatus", "chatId": US, "idMessage": "A1", "status": "delivered", "sendByApi": True, "instanceData": {"wid": f"{SHOP}@c.us"}}, state("delivered")),
    "whapi state": ({"statuses": [{"id": "A1", "code": 3, "status": "delivered", "recipient_id": PN}], "event": {"type": "statuses", "event": "post"}}, state("delivered")),
    "cloud api state": (cloud(statuses=[{"id": "A1", "status": "read", "recipient_id": CUSTOMER}]), state("read")),
    "chat-api ack": ({"ack": [{"id": "A1", "queueNumber": 5, "chatId": US, "status": "delivered"}], "instanceId": "1"}, state("delivered")),
    "maytapi ack": ({"type": "ack", "data": [{"chatId": US, "msgId": "A1", "ackType": "delivered", "ackCode": 2}]}, state("delivered")),
    "gupshup state": ({"type": "message-event", "payload": {"id": "A1", "gsId": "g1", "type": "delivered", "destination": CUSTOMER}}, state("delivered", others=["g1"])),
    "the number of another scale is the lesser": ({"id": "A1", "status": 3}, state("delivered")),
    # The shop's own messages, echoed back
    "evolution own": (evolution({"conversation": "Struk 17"}, event="send.message", from_me=True, status="PENDING"), state("pending", is_own=True, text="Struk 17", recipient=CUSTOMER)),
    "evolution own, hidden": (evolution({"conversation": "Struk 17"}, from_me=True, jid=LID, key={"remoteJidAlt": PN}), state("delivered", is_own=True, recipient=CUSTOMER)),
    "waha own": (waha("message.any", id=f"true_{US}_A1", fromMe=True, to=US, body="Struk 17", **{"from": f"{SHOP}@c.us"}), own(id=f"true_{US}_A1")),
    "green-api own": (green("outgoingMessageReceived", typeMessage="textMessage", textMessageData={"textMessage": "Struk 17"}), own()),
    "wuzapi own": (wuzapi(message={"conversation": "Struk 17"}, IsFromMe=True, Sender=f"{SHOP}@s.whatsapp.net"), own()),
    # The session
    "waha failed": (waha("session.status", name="default", status="FAILED"), session("FAILED")),
    "waha scan": (waha("session.status", name="default", status="SCAN_QR_CODE"), session("SCAN_QR_CODE")),
    "waha stopped": (waha("session.status", name="default", status="STOPPED"), session("STOPPED")),
    "waha working": (waha("session.status", name="default", status="WORKING"), session("WORKING")),
    "a session's failure without a name": ({"session": "default", "status": "FAILED"}, session("FAILED")),
    "evolution connection": ({"event": "connection.update", "instance": "toko", "data": {"instance": "toko", "state": "close", "statusReason": 401}, "sender": f"{SHOP}@s.whatsapp.net"}, session("close")),
    "baileys connection": ({"event": "connection.update", "data": {"connection": "open"}}, session("open")),
    "evolution qr": ({"event": "qrcode.updated", "instance": "toko", "data": {"qrcode": {"code": "2@x", "base64": "data:image/png;base64,x"}}}, session("qr")),
    "wablas device": ({"deviceId": "D1", "sender": SHOP, "status": "disconnected"}, session("disconnected")),
    "fonnte device": ({"device": SHOP, "status": "connect", "timestamp": 1764200000}, session("connect")),
    "z-api device": ({"type": "DisconnectedCallback", "momment": 1, "instanceId": "I1", "disconnected": True, "error": "gone"}, session("DisconnectedCallback")),
    "green-api state of the instance": ({"typeWebhook": "stateInstanceChanged", "instanceData": {"wid": f"{SHOP}@c.us"}, "stateInstance": "notAuthorized"}, session("notAuthorized")),
    "whatsapp-web.js disconnected": ({"dataType": "disconnected", "data": {"reason": "LOGOUT"}, "sessionId": "toko"}, session("disconnected")),
    "green-api yellow card": ({"typeWebhook": "stateInstanceChanged", "instanceData": {"wid": f"{SHOP}@c.us"}, "stateInstance": "yellowCard"}, session("yellowCard")),
    "waha passkey": (waha("session.status", name="default", status="PASSKEY_REQUIRED"), session("PASSKEY_REQUIRED")),
    "waha passkey, to be confirmed": (waha("session.status", name="default", status="PASSKEY_CONFIRMATION_REQUIRED"), session("PASSKEY_CONFIRMATION_REQUIRED")),
    "a status alone": ({"status": "suspended"}, session("suspended")),
    "a passkey in the event's name": ({"type": "PassKeyRequire", "event": {}, "instanceName": "toko"}, session("PassKeyRequire")),
    "wuzapi logged out": ({"type": "LoggedOut", "event": {"OnConnect": False, "Reason": 401}, "instanceName": "toko"}, session("LoggedOut")),
}  # fmt: skip


@pytest.mark.parametrize("linked_number", [SHOP, ""])
@pytest.mark.parametrize("shape", PAYLOADS)
def test_a_sister_gateways_payload_is_read_right(shape, linked_number):
    payload, wanted = PAYLOADS[shape]
    content_type = "application/x-www-form-urlencoded" if isinstance(payload, bytes) else "application/json"
    (event,) = parse_all(payload, content_type, linked_number)
    wanted = dict(wanted)
    if event.gateway_id == f"false_{US}_A1":
        # whatsapp-web.js puts the chat into the id. The plain id that other gateways use is tried as well.
        wanted |= {"id": event.gateway_id, "others": ["A1"]}
    read = {
        "id": event.gateway_id, "others": list(event.other_ids),
        **{name: value for name, value in event.as_json().items() if name in wanted},
    }  # fmt: skip
    others = wanted.pop("others", [])
    assert {name: value for name, value in read.items() if name in wanted and wanted[name] is not None} == {
        name: value for name, value in wanted.items() if value is not None
    }
    assert set(others) <= set(read["others"])


def test_there_are_enough_shapes():
    assert len(PAYLOADS) >= 60


@pytest.mark.parametrize(
    "payload",
    [
        {"event": "presence.update", "data": {"id": PN, "presences": {PN: {"lastKnownPresence": "composing"}}}},
        {"event": "contacts.update", "data": [{"remoteJid": PN, "pushName": "Budi", "profilePicUrl": "https://x.example/a"}]},
        {"event": "chats.upsert", "data": [{"remoteJid": PN, "unreadMessages": 3}]},
        {"event": "call", "data": {"id": "C1", "from": PN, "status": "timeout"}},
        {"event": "group-participants.update", "data": {"id": GROUP, "participants": [PN], "action": "add"}},
        {"event": "messages.delete", "data": {"key": {"id": "A1", "fromMe": False, "remoteJid": PN}, "status": "DELETED"}},
        waha("message.revoked", revokedMessageId="A1", after={"body": ""}, before={"body": "halo"}),
        evolution({"protocolMessage": {"type": "REVOKE", "key": {"id": "OTHER", "remoteJid": PN, "fromMe": False}}}),
        evolution({"senderKeyDistributionMessage": {"groupId": GROUP}}),
    ],
)  # fmt: skip
def test_what_tells_of_no_message_is_nobodys(payload):
    assert [event for event in parse_all(payload) if event.kind != EventKind.SESSION] == []


@pytest.mark.parametrize("ids", [{"ids": ["A1", "A2"]}, {"messageIds": ["A1", "A2"]}])
def test_one_receipt_may_tell_the_same_of_several_messages(ids):
    events = parse_all({"event": "message.ack", "payload": {"from": PN, "receipt_type": "read", **ids}})
    assert [(event.gateway_id, event.state.value) for event in events] == [("A1", "read"), ("A2", "read")]


def test_messages_and_states_may_stand_in_one_payload():
    events = parse_all(cloud(messages=[{"from": CUSTOMER, "id": "A1", "type": "text", "text": {"body": "halo"}}], statuses=[{"id": "B1", "status": "read"}]))  # fmt: skip
    assert [(event.kind.value, event.gateway_id) for event in events] == [(INCOMING, "A1"), (STATE, "B1")]


# --- bodies

BODY = json.dumps(evolution({"conversation": "terima kasih"})).encode()
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("header", ["gzip", "", "identity"])
def test_a_packed_body_is_unpacked_whatever_the_header_says(header):
    (event,) = parse_all(gzip.compress(BODY), content_encoding=header)
    assert (event.kind, event.sender, event.text) == (EventKind.INCOMING, CUSTOMER, "terima kasih")


@pytest.mark.parametrize("wbits", [15, -15])
def test_a_deflated_body_is_unpacked(wbits):
    packing = zlib.compressobj(wbits=wbits)
    body = packing.compress(BODY) + packing.flush()
    assert parse_all(body, content_encoding="deflate")[0].text == "terima kasih"


@pytest.mark.timeout(30)
def test_a_body_that_unpacks_to_very_much_is_not_read():
    bomb = gzip.compress(b'{"from": "6281234567890", "message": "' + b"x" * 100_000_000)
    read = parse_all(bomb, content_encoding="gzip")
    assert read == []
    assert isinstance(read, Unread)
    assert "bytes long when decompressed" in read.reason


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "windows-1252", "utf-16", "UTF-16LE", '"latin1"'])
def test_a_text_is_read_in_the_headers_charset(charset):
    payload = {"from": CUSTOMER, "id": "A1", "message": "café é"}
    body = json.dumps(payload, ensure_ascii=False).encode(charset.strip('"'))
    assert parse_all(body, f"application/json; charset={charset}")[0].text == "café é"
    if "16" not in charset:
        form = urlencode(payload, encoding=charset.strip('"')).encode()
        assert parse_all(form, f"{FORM}; charset={charset}")[0].text == "café é"


@pytest.mark.parametrize("charset", ["nonsense", "hex", "idna", "punycode", "unicode_escape", "rot13", "utf-7", "\x00"])
def test_what_is_no_charset_is_taken_for_utf_8(charset):
    body = json.dumps({"from": CUSTOMER, "message": "café"}, ensure_ascii=False).encode()
    assert parse_all(body, f"application/json; charset={charset}")[0].text == "café"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_wide_characters_are_known_by_their_zeros(encoding):
    assert parse_all(BODY.decode().encode(encoding))[0].text == "terima kasih"


def _form(value, name=""):
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _form(item, f"{name}[{key}]" if name else key)]
    if isinstance(value, list):
        return [pair for number, item in enumerate(value) for pair in _form(item, f"{name}[{number}]")]
    return [(name, str(value).lower() if isinstance(value, bool) else str(value))]


@pytest.mark.parametrize(
    "shape",
    ["evolution text", "disappearing chat", "waha ack", "baileys update", "cloud api text", "wuzapi read", "list"],
)
def test_a_form_may_nest_its_fields_as_deep_as_json(shape):
    payload, _ = PAYLOADS[shape]
    as_form, as_json = parse_all(urlencode(_form(payload)).encode(), FORM), parse_all(payload)
    assert [event.as_json() for event in as_form] == [event.as_json() for event in as_json]


@pytest.mark.timeout(5)
def test_a_form_that_nests_without_end_is_not_followed():
    assert parse_all(b"&".join(b"data" + b"[a]" * 300 + b"=1" for _ in range(900)), FORM) == []
    assert parse_all(b"data" + b"[" * 100_000 + b"=1", FORM) == []
