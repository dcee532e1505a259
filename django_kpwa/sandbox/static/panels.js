// The panels beside the phone: what the sandbox is, what shall go wrong, and what was asked of it.
// Loaded after phone.js, whose functions it uses, and not at all in a frame (?embed=1).
"use strict";

let drawnFaults = "";

document.addEventListener("sandbox-state", ({ detail: { state, license } }) => {
  drawFacts(state, license);
  drawFaults(state.faults);
  byId("log").replaceChildren(...state.log.map(logEntry));
});

function drawFacts(state, license) {
  const select = byId("license");
  const names = state.licenses.map((each) => each.name);
  if (select.dataset.names !== names.join("\n")) {
    select.dataset.names = names.join("\n");
    select.replaceChildren(...names.map((name) => new Option(name, name)));
  }
  select.value = license.name;
  byId("base-url").textContent = `${location.origin}/backend`;
  byId("link-state").textContent = license.linked ? `Linked, +${license.number}` : "Not linked";
  byId("webhook-state").textContent = license.has_webhook ? "Registered" : "None registered";
  byId("deliveries").textContent = String(state.deliveries);
  byId("unlinked-status").value = String(state.unlinked_status);
}

function drawFaults(faults) {
  const list = byId("faults");
  const now = JSON.stringify(faults);
  // A slider that is being dragged must not be replaced under the hand.
  if (now === drawnFaults || list.querySelector("input[type=range]:active, input[type=number]:focus")) return;
  drawnFaults = now;
  list.replaceChildren(...faults.map(faultRow));
}

function faultRow(fault) {
  const probability = element("input", {
    type: "range", min: 0, max: 100, step: 5, value: fault.probability * 100, ariaLabel: `${fault.name}: probability`,
  });
  const output = element("output", {}, percent(fault.probability));
  const row = element(
    "li",
    { className: fault.probability ? "on" : "" },
    element("span", { className: "fault-name" }, fault.name, element("small", {}, faultAbout(fault))),
    probability,
    output,
  );
  const amount = fault.unit && element("input", {
    type: "number", min: 0, value: fault.amount, ariaLabel: `${fault.name}: ${fault.unit}`,
  });
  if (amount) row.append(element("label", { className: "amount" }, amount, fault.unit));
  probability.oninput = () => (output.textContent = percent(probability.value / 100));
  probability.onchange = () => setFault(fault.name, probability, amount);
  if (amount) amount.onchange = () => setFault(fault.name, probability, amount);
  return row;
}

function faultAbout(fault) {
  const limits = [fault.operation !== "any" && fault.operation, fault.count && `${fault.count} more`];
  return [fault.about, ...limits.filter(Boolean)].join(" · ");
}

function setFault(name, probability, amount) {
  const setting = { probability: probability.value / 100 };
  if (amount) setting.amount = Number(amount.value);
  change("faults", { [name]: setting }, "PUT");
}

function percent(probability) {
  return probability ? `${Math.round(probability * 100)} %` : "off";
}

function logEntry(entry) {
  const isOut = entry.direction === "out";
  const tone = entry.status >= 200 && entry.status < 300 ? "good" : "bad";
  const made = element(
    "li",
    {},
    element("time", {}, new Date(entry.at).toLocaleTimeString([], { hour12: false })),
    element("span", { className: "direction", title: isOut ? "Webhook to the site" : "Request" }, isOut ? "→" : "←"),
    element("span", { className: "operation" }, isOut ? entry.operation : `${entry.method} ${entry.operation}`),
    element("span", { className: `status ${tone}` }, entry.status ? String(entry.status) : "none"),
  );
  if (entry.fault) made.append(element("span", { className: "fault-tag" }, entry.fault));
  return made;
}

byId("license").onchange = (event) => show({ license: event.target.value, chat: "" });
byId("unlinked-status").onchange = (event) => change("unlinked-status", { status: Number(event.target.value) });
byId("clear-faults").onclick = () => change("faults", {}, "DELETE");
