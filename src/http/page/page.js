"use strict";

/* The hop of each cause: the agent puts its table of causes here. */
const HOP_OF = /*hops*/{};
const SIGNS = { ok: "✓", failed: "✕", degraded: "!", unknown: "?" };
const WORDS = { ok: "in order", failed: "trouble here", unknown: "not known" };
const VERDICTS = {
  healthy: (peer) => `${peer} reaches the pods`, degraded: () => "works, but not well", unreachable: (peer) => `${peer} does not reach the pods`,
  misconfigured: () => "cannot work as configured", unknown: () => "not known yet",
};
/* After this time without an answer, the page marks its content as old. */
const LOST_AFTER = 4000;
const ASK_EVERY = 5000;
/* Frames older than this are no evidence of the present state. */
const RECENT = 3000;

const $ = (id) => document.getElementById(id);
let shown = null; /* the status on the page */
let heard = 0; /* when the agent last answered */
const started = Date.now();
let tracks = {}; /* by CIDR: points of the last ten minutes */

/* Elements are made from values and never from markup, because many values come from a ConfigMap that anyone may have written. */
function make(tag, attributes, ...children) {
  const namespace = ["svg", "path", "rect"].includes(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) if (value != null) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

/* Changes the existing elements into the new ones, node by node, so that focus, selection and a screen reader's place survive a new status. */
function renew(parent, children) {
  children.forEach((fresh, n) => {
    const old = parent.childNodes[n];
    if (!old) parent.append(fresh);
    else if (old.nodeName !== fresh.nodeName) old.replaceWith(fresh);
    else if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
    } else {
      for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      renew(old, [...fresh.childNodes]);
    }
  });
  while (parent.childNodes.length > children.length) parent.lastChild.remove();
}

const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const list = (values) => (values && values.length ? values.join(", ") : null);
const clock = (at) => (at ? new Date(at).toLocaleTimeString([], { hour12: false }) : "never");
const ms = (us) => (us == null ? null : `${(us / 1000).toFixed(us < 10000 ? 2 : us < 100000 ? 1 : 0)} ms`);
const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;
const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
/* A VTEP from a custom resource has a name, and may be no BIG-IP. */
const peer = (vtep) => vtep.name ?? "BIG-IP";
const label = (vtep) => (vtep.name ? `${vtep.name} (${vtep.cidr})` : vtep.cidr);
const stateOf = (probe) => (probe.state === "ok" ? "ok" : probe.state === "failed" ? "failed" : "unknown");

function ago(at) {
  const seconds = Math.max(0, Math.round((Date.now() - new Date(at)) / 1000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

function answer(name, probe) {
  if (probe.state === "ok") return [name, probe.rtt_us == null ? "answered" : ms(probe.rtt_us)].join(" ");
  const words = { failed: "not answered", "no-target": "has no target", unsupported: "not possible", pending: "not answered yet" };
  return `${name} ${words[probe.state] ?? probe.state}${probe.error ? `: ${probe.error}` : ""}`;
}

/* The path of a packet from a pod to the tunnel self IP, with the observations at each hop. */
function hops(status, vtep) {
  const { probes, seen } = vtep;
  const { cilium } = status;
  const intruders = status.datapath.intruders.filter((intruder) => intruder.vtep === vtep.cidr).map((intruder) => intruder.prefix);
  const map = { "in-sync": "ok", pending: "failed", contended: "failed" }[vtep.datapath.state] ?? "unknown";
  const frames = seen.packets > 0;
  const lately = seen.last_seen_at && Date.now() - new Date(seen.last_seen_at) < RECENT;
  const all = [
    { id: "pod", name: "Pod", state: "ok", seen: [
      `sends to ${vtep.cidr}`, intruders.length ? `${list(intruders)} is in the cluster` : null] },
    { id: "map", name: "VTEP map", state: map, seen: [
      vtep.datapath.state, `to ${vtep.endpoint}`, vtep.mac, vtep.datapath.repairs ? plural(vtep.datapath.repairs, "repair", "repairs") : null,
      vtep.datapath.error] },
    { id: "device", name: "Tunnel device", state: cilium.running ? "ok" : "failed", seen: [
      cilium.running ? `cilium_${cilium.tunnel_protocol ?? "vxlan"}` : "not there", "VNI 2",
      cilium.tunnel_port ? `UDP ${cilium.tunnel_port}` : null, cilium.router ? `from ${cilium.router}` : null] },
    { id: "underlay", name: "Underlay", state: stateOf(probes.underlay), seen: [
      answer("ping", probes.underlay), probes.path_mtu.inner_mtu ? `inner packets up to ${probes.path_mtu.inner_mtu} bytes` : null] },
    { id: "bigip", name: "BIG-IP", state: probes.arp.state === "ok" || lately ? "ok" : stateOf(probes.arp), seen: [
      vtep.endpoint, answer("ARP", probes.arp), probes.arp.observed_mac ? `MAC ${probes.arp.observed_mac}` : null,
      frames ? `VNI ${list(seen.vnis)}, UDP ${list(seen.ports)}` : "no frame seen",
      seen.last_seen_at ? `last frame ${ago(seen.last_seen_at)} ago` : null] },
    { id: "self-ip", name: "Tunnel self IP", state: stateOf(probes.icmp), seen: [
      probes.icmp.target ? `${probes.icmp.target}${probes.icmp.target_origin ? ` (${probes.icmp.target_origin})` : ""}` : null,
      answer("ping", probes.icmp), `${percent(probes.icmp.loss)} lost`] },
  ];
  const names = vtep.name ? { bigip: vtep.name, "self-ip": "Tunnel address" } : {};
  const troubled = new Set([vtep.cause, ...vtep.also].filter(Boolean).map((cause) => HOP_OF[cause]));
  const nearest = vtep.cause ? all.findIndex((hop) => hop.id === HOP_OF[vtep.cause]) : -1;
  return all.map((hop, n) => {
    /* If a hop beyond the faulty one is silent, that follows from the fault and is no news. */
    const follows = nearest >= 0 && n > nearest && hop.state === "failed" && !troubled.has(hop.id);
    const before = nearest >= 0 && n < nearest && hop.state === "failed" && !troubled.has(hop.id);
    const state = troubled.has(hop.id) ? "failed" : follows || before ? "unknown" : hop.state;
    return { ...hop, name: names[hop.id] ?? hop.name, state, broken: n === nearest };
  });
}

function drawHop({ name, state, seen, broken }) {
  return make("li", { class: `hop ${state}${broken ? " broken" : ""}` },
    make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[state]),
    make("h3", {}, name),
    make("p", { class: "word" }, WORDS[state]),
    make("ul", {}, seen.filter(Boolean).map((value) => make("li", {}, value))));
}

/* Ten minutes as a line or as bars, with a description for screen readers. */
function drawGraphs(points) {
  const width = 240, height = 44, room = 120, step = width / room;
  const x = (n) => (room - points.length + n) * step;
  const known = points.map((point) => point.rtt_us).filter((rtt) => rtt != null);
  const top = Math.max(...known, 1) * 1.15;
  let line = "", down = false;
  points.forEach(({ rtt_us, lost }, n) => {
    /* A single point is drawn as a dot. */
    if (rtt_us != null) line += `${down ? "L" : "M"}${(x(n) + step / 2).toFixed(1)} ${(height - (rtt_us / top) * height).toFixed(1)}${down ? "" : "h0"}`;
    /* A probe that was skipped because of BIG-IP's own frames leaves no gap; a probe without an answer does. */
    down = rtt_us != null || (down && !lost);
  });
  const loss = points.map((point) => (point.received + point.lost ? point.lost / (point.received + point.lost) : 0));
  const sent = points.reduce((sum, point) => sum + point.received + point.lost, 0);
  const lost = points.reduce((sum, point) => sum + point.lost, 0);
  const sum = points.reduce((sum, point) => sum + (point.rtt_us ?? 0) * point.received, 0);
  const mean = sent > lost ? sum / (sent - lost) : null;
  const minutes = Math.round(points.length / 12);
  const span = minutes > 1 ? `${minutes} minutes` : "minute";
  const rttWords = mean != null ? `mean ${ms(mean)}, worst 5 s ${ms(Math.max(...known))}` : sent ? "no answer" : "no ping";
  const lossWords = sent ? `${lost} of ${sent} pings` : "no ping";
  const figure = (title, words, ...shapes) => make("figure", {},
    make("figcaption", {}, make("span", {}, `${title}, last ${span}`), make("span", {}, words)),
    make("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${words}` }, shapes));
  return make("div", { class: "graphs" },
    figure("Round trip", rttWords, make("path", { class: "rtt-line", d: line || "M0 0" })),
    figure("Loss", lossWords, loss.map((share, n) => (share
      ? make("rect", { class: "loss-bar", x: x(n), width: step * 0.8, y: height - share * height, height: share * height }) : null))));
}

const TONES = { healthy: "ok", degraded: "degraded", unreachable: "failed", misconfigured: "failed", unknown: "unknown" };

function drawVtep(status, vtep) {
  const tone = TONES[vtep.verdict];
  const also = vtep.also.length ? [" Also: ", ...vtep.also.flatMap((cause, n) => [n ? ", " : "", make("code", {}, cause)]), "."] : [];
  const link = vtep.runbook && /^https?:/.test(vtep.runbook) ? make("a", { href: vtep.runbook }, "Runbook") : vtep.runbook && `See ${vtep.runbook}.`;
  const why = vtep.cause
    ? make("p", { class: "why failed" }, make("b", {}, make("code", {}, vtep.cause), ": "), vtep.hint ?? "", ".", also, link ? [" ", link] : [])
    : null;
  return make("article", { class: "vtep", "aria-label": `VTEP ${label(vtep)}`, "data-verdict": vtep.verdict },
    make("header", {},
      make("h2", {}, vtep.name ?? vtep.cidr, " ", make("small", {}, vtep.name ? `${vtep.cidr} at ${vtep.endpoint}` : `BIG-IP ${vtep.endpoint}`)),
      make("span", { class: `badge ${tone}` }, `${SIGNS[tone]} ${VERDICTS[vtep.verdict](peer(vtep))}`)),
    why,
    make("ol", { class: "path", "aria-label": "The way of a packet" }, hops(status, vtep).map(drawHop)),
    drawGraphs(tracks[vtep.cidr] ?? []));
}

function drawFacts(id, facts) {
  const rows = facts.filter(([, value]) => value != null && value.length !== 0);
  renew($(id), rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, [value].flat().flatMap((part, n) =>
    (n ? [make("br"), part] : [part])))]));
}

function drawFinding({ severity, rule, key, index, value, message, origin }) {
  const place = index == null ? key : `${key}, value ${index + 1}`;
  return make("li", { class: severity },
    make("span", { class: "place" }, `${severity} at `, make("code", {}, place), origin ? ` (${origin})` : "", value != null ? [" ", make("mark", {}, value)] : []),
    message, " ", make("code", {}, `[${rule}]`));
}

/* Where the VTEPs come from, if not from the lists. */
function drawTruth({ truth, truth_reason, objects }) {
  if (truth === "none") return "not known: nothing is written";
  if (truth !== "crd") return "";
  return [`custom resources: ${truth_reason}`, ...objects.filter((object) => object.applies).map((object) =>
    `${object.name} (${object.version})${object.synced === false ? ", not synced by Cilium" : ""}`)];
}

/* The headline, and the advice below it. */
function headline(status) {
  const { node, config, vteps } = status;
  if (config.enabled === false) return ["VTEP is switched off", "cilium-config has enable-vtep off: this agent has nothing to do."];
  if (config.enabled == null) return ["No configuration is in force yet", config.source_error ?? config.findings.find((f) => f.severity === "error")?.message ?? ""];
  if (config.truth === "none") return ["The VTEPs of this node are decided elsewhere",
    "cilium-config has enable-vtep and none of the lists vtep-endpoint, vtep-cidr and vtep-mac: perhaps CiliumVTEPConfig objects have them. This agent writes and deletes nothing."];
  const bad = vteps.filter((vtep) => vtep.verdict !== "healthy");
  const errors = config.findings.filter((finding) => finding.severity === "error").length;
  const note = errors ? `${plural(errors, "error", "errors")} in ${config.truth === "crd" ? "the configuration" : "cilium-config"}: ${config.stale ? "last good values stay in force." : "see below."}` : "";
  if (!vteps.length) return ["No VTEP is in force", note];
  const kind = vteps.some((vtep) => vtep.name) ? "VTEP" : "BIG-IP";
  if (!bad.length) {
    const all = vteps.length === 1 ? `The ${kind} reaches` : vteps.length === 2 ? `Both ${kind}s reach` : `All ${vteps.length} ${kind}s reach`;
    return [`${all} the pods of ${node}`, note || "Nothing to do."];
  }
  const partly = vteps.filter((vtep) => vtep.verdict === "degraded").length;
  const works = partly + vteps.filter((vtep) => vtep.verdict === "healthy").length;
  const known = bad.some((vtep) => vtep.cause);
  const sentence = known ? `${works} of ${plural(vteps.length, kind, `${kind}s`)} ${works === 1 ? "reaches" : "reach"} the pods of ${node}${partly ? `, ${partly === works ? "but not well" : `${partly} of them not well`}` : ""}`
    : `Looking whether ${plural(vteps.length, `${kind} reaches`, `${kind}s reach`)} the pods of ${node}`;
  const first = bad.find((vtep) => vtep.hint);
  return [sentence, [first ? `${label(first)}: ${first.hint}.` : "", note].filter(Boolean).join(" ")];
}

function draw(status) {
  shown = status;
  const { config, kernel, cilium, datapath, tap, bigip } = status;
  const [sentence, todo] = headline(status);
  set("verdict", sentence);
  set("todo", todo);
  set("who", `${status.version} on ${status.node}${status.mode === "observe" ? ", only looking" : ""}`);
  document.title = `${SIGNS[TONES[status.verdict]]} ${status.node} – vtep-agent`;
  renew($("vteps"), status.vteps.map((vtep) => drawVtep(status, vtep)));
  drawFacts("config", [
    ["source", config.source], ["truth", drawTruth(config)], ["state", config.valid ? "valid" : config.stale ? "in error: last good values in force" : "in error"],
    ["seen", config.observed_at ? `${ago(config.observed_at)} ago` : "not yet"], ["problem", config.source_error], ["hash", config.hash?.slice(0, 12)],
    ["overridden", Object.entries(config.overrides).map(([key, object]) => `${key} by ${object}`)]]);
  renew($("findings"), config.findings.map(drawFinding));
  drawFacts("node", [
    ["kernel", `${kernel.release}${kernel.supported ? "" : " (not supported)"}`], ["", kernel.reasons],
    ["Cilium", `${cilium.version ?? "version not known"}${cilium.running ? "" : ", not running"}`], ["", cilium.config_error],
    ["tunnel", cilium.tunnel_protocol ? `${cilium.tunnel_protocol}, UDP ${cilium.tunnel_port}, VNI 2` : null], ["mask", cilium.vtep_mask],
    ["restart", cilium.restart_required ? cilium.reasons.map((reason) => `Cilium needs one for ${reason}`) : "not needed"],
    ["FDB on BIG-IP", bigip.fdb_record ? `${bigip.fdb_record.mac} → ${bigip.fdb_record.endpoint}` : null],
    ["eBPF tap", tap.loaded ? "loaded" : tap.error ?? "not loaded"]]);
  const pass = datapath.last_pass;
  drawFacts("datapath", [
    ["state", datapath.in_sync ? "as configured" : "not as configured"], ["VTEP map", datapath.model],
    ["last look", pass ? `${clock(pass.at)}, took ${ms(pass.took_us)}` : "not yet"], ["repairs", String(datapath.repairs_total)],
    ["still to do", datapath.pending], ["problems", datapath.problems], ["contended", datapath.contended]]);
  set("as-of", `as of ${clock(Date.now())}, up for ${ago(status.started_at)}`);
}

function drawHistory(history) {
  tracks = Object.fromEntries(history.vteps.map((track) => [track.cidr, track.points]));
  const words = ({ verdict, cause }) => (cause ? `${verdict} (${cause})` : verdict);
  const move = ({ from, to }) => (from.endpoint === to.endpoint ? `moved: MAC ${from.mac} → ${to.mac}` : `moved: ${from.endpoint} → ${to.endpoint}`);
  const nameOf = (cidr) => label(shown?.vteps.find((vtep) => vtep.cidr === cidr) ?? { cidr });
  /* After a move nothing is known for a moment: that is no trouble. */
  const isSame = (from, to, moved) => words(from) === words(to) || (moved && to.verdict === "unknown");
  const entry = ({ at, cidr, from, to, repairs, moved }) => make("li", {}, make("time", { datetime: at }, clock(at)),
    make("span", {}, `${nameOf(cidr)}: ${[moved ? move(moved) : null, isSame(from, to, moved) ? null : `${words(to)}, was ${words(from)}`,
      repairs ? `${plural(repairs, "repair", "repairs")} of the map entry` : null].filter(Boolean).join("; ")}`));
  renew($("changes"), history.changes.length ? history.changes.map(entry) : [make("li", {}, "none since the agent started")]);
  if (shown) draw(shown);
}

function link(state, words) {
  $("link").dataset.state = state;
  set("link-text", words);
}

function onStatus(status, state) {
  heard = Date.now();
  document.body.classList.remove("old");
  $("lost").hidden = true;
  link(state, state === "live" ? "live" : `asked every ${ASK_EVERY / 1000} s`);
  draw(status);
}

function lost() {
  if (document.body.classList.contains("old")) return;
  document.body.classList.add("old");
  link("lost", "lost");
  set("verdict", shown ? `No answer from ${shown.node}` : "No answer");
  document.title = `? ${shown?.node ?? ""} – vtep-agent`;
  $("lost").hidden = false;
  $("lost").textContent = heard ? `The agent has not answered since ${clock(heard)}: what is below is old. This page goes on asking.`
    : "The agent does not answer. This page goes on asking.";
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(LOST_AFTER - 1000) });
  return answer.json();
}

/* Fetches the history, and also the status if no event has brought it. */
async function beat() {
  try {
    const [status, history] = await Promise.all([ask("status"), ask("history")]);
    drawHistory(history);
    if (Date.now() - heard > LOST_AFTER / 2) onStatus(status, "asking");
  } catch {
    if (Date.now() - (heard || started) >= LOST_AFTER) lost();
  }
}

function listen() {
  const events = new EventSource("events");
  events.onmessage = (event) => onStatus(JSON.parse(event.data), "live");
  events.onerror = () => {
    beat();
    /* The browser reconnects by itself, unless the agent refused the stream. */
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3 * ASK_EVERY);
  };
}

listen();
beat();
setInterval(beat, ASK_EVERY);
