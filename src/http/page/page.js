"use strict";

/* The hop of each cause: the agent puts its table of causes here. */
const HOP_OF = /*hops*/{};
const SIGNS = { ok: "✓", failed: "✕", degraded: "!", silent: "?", unknown: "?", untested: "–" };
const WORDS = { ok: "OK", failed: "fault here", silent: "no answer", unknown: "not known", untested: "not tested from a pod" };
const TONES = { healthy: "ok", degraded: "degraded", unreachable: "failed", misconfigured: "failed", unknown: "unknown" };
/* The most urgent first. */
const URGENCY = ["unreachable", "misconfigured", "degraded", "unknown", "healthy"];
/* With more VTEPs than this, those without a fault are folded. */
const UNFOLDED = 3;
/* What the graphs show, as their labels say. */
const GRAPH_MINUTES = 10;
/* After this time without an answer, the page marks its content as old. */
const LOST_AFTER = 4000;
const ASK_EVERY = 5000;
/* Frames older than this are no evidence of the present state. */
const RECENT = 3000;
/* A monitor of BIG-IP connects to a pod at least this often. */
const PODS = 60000;
/* What was seen longer ago than this is dated. */
const FRESH = 15000;

const $ = (id) => document.getElementById(id);
let shown = null; /* the status on the page */
let heard = 0; /* when the agent last answered */
const started = Date.now();
let past = null; /* the last changes, and for each VTEP the points of the last ten minutes; null until it has arrived */
const opened = new Set(); /* the ids of folded VTEPs that a person has opened */

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
const ms = (us) => (us == null ? null : `${(us / 1000).toFixed(us < 10000 ? 2 : us < 100000 ? 1 : 0)} ms`);
const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;
/* A VTEP from a custom resource has a name, and may be no BIG-IP. */
const label = (vtep) => (vtep.name ? `${vtep.name} (${vtep.cidr})` : vtep.cidr);
const stateOf = (probe) => (probe.state === "ok" ? "ok" : probe.state === "failed" ? "silent" : "unknown");

/* Date, time and zone: an incident is written up later, and elsewhere. The Swedish form is that of ISO 8601. */
const timesIn = (timeZone) => new Intl.DateTimeFormat("sv-SE", { timeZone, timeZoneName: "short", year: "numeric", month: "2-digit",
  day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const times = { false: timesIn(), true: timesIn("UTC") };
const isUtc = () => $("utc").getAttribute("aria-pressed") === "true";
const clock = (at) => (at ? times[isUtc()].format(new Date(at)) : "never");
const dated = (at) => (at && Date.now() - new Date(at) > FRESH ? `, seen ${ago(at)} ago` : "");

function ago(at) {
  const seconds = Math.max(0, Math.round((Date.now() - new Date(at)) / 1000));
  if (seconds < 90) return `${seconds}\u00a0s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)}\u00a0min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)}\u00a0h` : `${Math.round(seconds / 86400)}\u00a0days`;
}

function answer(name, probe) {
  if (probe.state === "ok") return [name, probe.rtt_us == null ? "answered" : ms(probe.rtt_us)].join(" ");
  const last = probe.answered_at ? `not answered for ${ago(probe.answered_at)}` : "never answered";
  const words = { failed: last, "no-target": "has no target", unsupported: "not possible", pending: "not answered yet" };
  return `${name} ${words[probe.state] ?? probe.state}${probe.error ? `: ${probe.error}` : ""}`;
}

const lostOf = ({ recent, recent_lost }) => (recent > 1 ? `${recent_lost || "none"} of the last ${recent} pings lost` : null);

/* The path of a packet from a pod to the tunnel self IP, with the observations at each hop. */
function hops(status, vtep) {
  const { probes, seen } = vtep;
  const { cilium } = status;
  const intruders = status.datapath.intruders.filter((intruder) => intruder.vtep === vtep.cidr).map((intruder) => intruder.prefix);
  const map = { "in-sync": "ok", pending: "failed", contended: "failed" }[vtep.datapath.state] ?? "unknown";
  const within = (at, time) => at && Date.now() - new Date(at) < time;
  const lately = within(seen.last_seen_at, RECENT);
  const answered = within(seen.pods.answered_at, PODS), asked = within(seen.pods.asked_at, PODS);
  const all = [
    /* Every probe comes from the node: none shows a pod's policy or route. Only BIG-IP's own connections to pods do. */
    { id: "pod", name: "Pod", state: answered ? "ok" : asked ? "unknown" : "untested", seen: [
      `to ${vtep.cidr}`,
      answered ? `pods answer, seen ${ago(seen.pods.answered_at)} ago`
        : asked ? `no pod has answered the connection of ${ago(seen.pods.asked_at)} ago` : null, intruders.length ? `${list(intruders)} is in the cluster` : null] },
    { id: "map", name: "VTEP map", state: map, seen: [
      vtep.datapath.state, `to ${vtep.endpoint}`, vtep.mac, vtep.mac_learned ? `learned, not ${vtep.mac_configured}` : null,
      vtep.mac_learned ? vtep.mac_learning?.config_line : null, vtep.datapath.repairs ? plural(vtep.datapath.repairs, "repair", "repairs") : null,
      vtep.datapath.error, cilium.restart_required ? "Cilium runs with other values" : null, status.kernel.supported ? null : "kernel not supported"] },
    { id: "device", name: "Tunnel device", state: cilium.devices ? "ok" : "failed", seen: [
      cilium.devices ? `cilium_${cilium.tunnel_protocol ?? "vxlan"}` : "not there", "VNI 2",
      cilium.tunnel_port ? `UDP ${cilium.tunnel_port}` : null, cilium.router ? `from ${cilium.router}` : null] },
    { id: "underlay", name: "Underlay", state: stateOf(probes.underlay), seen: [
      answer("ping", probes.underlay), probes.underlay.recent_lost ? lostOf(probes.underlay) : null,
      /* The largest size is searched while pings through the tunnel are answered. */
      probes.path_mtu.inner_mtu && probes.icmp.state === "ok" ? `inner packets up to ${probes.path_mtu.inner_mtu} bytes` : null] },
    { id: "bigip", name: "BIG-IP", state: lately && probes.arp.state !== "failed" ? "ok" : stateOf(probes.arp), seen: [
      vtep.endpoint, answer("ARP", probes.arp),
      probes.arp.observed_mac ? `MAC ${probes.arp.observed_mac}${dated(probes.arp.observed_at)}` : null,
      seen.streams.length ? seen.streams.map(({ vni, port, last_seen_at }) => `VNI ${vni}, UDP ${port}, seen ${ago(last_seen_at)} ago`) : "no frame seen"].flat() },
    { id: "self-ip", name: "Tunnel self IP", state: stateOf(probes.icmp), seen: [
      probes.icmp.target ? `${probes.icmp.target}${probes.icmp.target_origin ? ` (${probes.icmp.target_origin})` : ""}` : null,
      answer("ping", probes.icmp), lostOf(probes.icmp),
      probes.tcp ? answer(`TCP port ${probes.tcp.port}`, probes.tcp) : null,
      probes.echo_every > 1 ? `asked in one round of ${probes.echo_every}: it limits its answers` : null] },
  ];
  const names = vtep.name ? { bigip: vtep.name, "self-ip": "Tunnel address" } : {};
  const troubled = new Set([vtep.cause, ...vtep.also].filter(Boolean).map((cause) => HOP_OF[cause]));
  const nearest = vtep.cause ? all.findIndex((hop) => hop.id === HOP_OF[vtep.cause]) : -1;
  return all.map((hop, n) => {
    /* A hop that is not named by a cause has no fault of its own. */
    const state = troubled.has(hop.id) ? "failed" : nearest >= 0 && hop.state === "failed" ? "unknown" : hop.state;
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

/* The size of a graph in its own units: a step is the time of one point. */
const GRAPH = { width: 2 * GRAPH_MINUTES * 12, height: 44, step: 2, span: GRAPH_MINUTES * 60000 };

/* The points that a graph shows, each with its age in relation to the newest: the agent's clock may differ from the browser's. */
function recentPoints(points) {
  const newest = Date.parse(points.at(-1)?.at);
  return points.map((point) => ({ ...point, age: newest - Date.parse(point.at) })).filter(({ age }) => age < GRAPH.span);
}

const x = ({ age }) => GRAPH.width - GRAPH.step - (age / GRAPH.span) * GRAPH.width;

function rttLine(points) {
  const top = Math.max(...points.map((point) => point.rtt_us ?? 0), 1) * 1.15;
  let line = "", before = null;
  for (const point of points) {
    const { age, rtt_us, lost } = point;
    /* Nothing is known about a time in which the agent did not run. */
    if (before != null && before - age > 20000) before = null;
    /* A single point is drawn as a dot. */
    const [command, dot] = before == null ? ["M", "h0"] : ["L", ""];
    if (rtt_us != null) line += `${command}${(x(point) + GRAPH.step / 2).toFixed(1)} ${((1 - rtt_us / top) * GRAPH.height).toFixed(1)}${dot}`;
    /* A probe that was skipped because of BIG-IP's own frames leaves no gap; a probe without an answer does. */
    before = rtt_us != null || (before != null && !lost) ? age : null;
  }
  return make("path", { class: "rtt-line", d: line || "M0 0" });
}

/* The height is the share that was lost of at least five pings: one lost ping alone, such as the first of a start, is no outage. */
function lossBar(points, n) {
  let [sent, lost] = [0, 0];
  for (let k = n; k >= 0 && sent < 5; k--) [sent, lost] = [sent + points[k].received + points[k].lost, lost + points[k].lost];
  const height = (lost / Math.max(sent, 5)) * GRAPH.height;
  return make("rect", { class: "loss-bar", x: x(points[n]).toFixed(1), width: GRAPH.step * 0.8, y: (GRAPH.height - height).toFixed(1), height: height.toFixed(1) });
}

/* The figures beside the graphs, in words. */
function graphWords(points) {
  const total = (of) => points.reduce((sum, point) => sum + of(point), 0);
  const [received, lost] = [total((point) => point.received), total((point) => point.lost)];
  if (!received && !lost) return ["no ping", "no ping"];
  const mean = total((point) => (point.rtt_us ?? 0) * point.received) / received;
  const worst = Math.max(...points.map((point) => point.rtt_us ?? 0));
  const seconds = Math.round(points[0].age / 1000) + 5;
  const recorded = seconds > 60 * GRAPH_MINUTES - 15 ? "" : `, recorded for ${seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`}`;
  return [received ? `mean ${ms(mean)}, worst 5 s ${ms(worst)}` : "no answer", `${lost || "none"} of ${plural(received + lost, "ping", "pings")}${recorded}`];
}

/* Ten minutes as a line and as bars, with a description for screen readers. `track` is null until the history has arrived. */
function drawGraphs(track) {
  const points = recentPoints(track ?? []);
  const [rtt, loss] = track ? graphWords(points) : ["loading", "loading"];
  /* The part of the ten minutes of which nothing is recorded. */
  const empty = points.length ? Math.max(0, x(points[0])) : GRAPH.width;
  const figure = (title, words, ...shapes) => make("figure", {},
    make("figcaption", {}, make("span", {}, `${title}, last ${GRAPH_MINUTES} minutes`), make("span", {}, words)),
    make("svg", { viewBox: `0 0 ${GRAPH.width} ${GRAPH.height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${words}` },
      make("rect", { class: "empty", width: empty.toFixed(1), height: GRAPH.height }), shapes));
  return make("div", { class: "graphs" }, figure("Round trip", rtt, rttLine(points)),
    figure("Lost", loss, points.map((point, n) => (point.lost ? lossBar(points, n) : null))));
}

/* A ping from the node was answered through the tunnel: that is what "works" means here. */
const works = (vtep) => vtep.probes.icmp.state === "ok" && ["healthy", "degraded"].includes(vtep.verdict);

function verdictOf(vtep) {
  const words = { healthy: "tunnel works", unreachable: "tunnel does not work", misconfigured: "misconfigured", unknown: "not known yet" };
  return words[vtep.verdict] ?? (works(vtep) ? "works, but not well" : "not known to work");
}

/* The runbook of this agent is at /runbook, for those who have not set an address. */
const runbook = (vtep) => (/^https?:/.test(vtep.runbook ?? "") ? vtep.runbook : `runbook#${vtep.cause}`);
const idOf = (vtep) => `vtep-${vtep.cidr}`;

function drawVtep(status, vtep) {
  const tone = TONES[vtep.verdict];
  const isFolded = vtep.verdict === "healthy" && status.vteps.length > UNFOLDED;
  const also = vtep.also.length ? [" Also: ", ...vtep.also.flatMap((cause, n) => [n ? ", " : "", make("code", {}, cause)]), "."] : [];
  const since = vtep.since ? ` since ${clock(vtep.since)} (${ago(vtep.since)})` : "";
  const why = vtep.cause
    ? make("p", { class: `why ${tone}` }, make("b", {}, make("code", {}, vtep.cause)), `${since}: ${vtep.hint ?? ""}.`, also,
      " ", make("a", { href: runbook(vtep) }, "Runbook"))
    : also.length ? make("p", { class: "why" }, also) : null;
  const heading = [
    make("h2", {}, vtep.name ?? vtep.cidr, " ", make("small", {}, vtep.name ? `${vtep.cidr} at ${vtep.endpoint}` : `BIG-IP ${vtep.endpoint}`)),
    isFolded ? make("span", { class: "brief" }, answer("ping", vtep.probes.icmp)) : null,
    make("span", { class: `badge ${tone}` }, `${SIGNS[tone]} ${verdictOf(vtep)}`)];
  const track = past?.vteps.find(({ cidr }) => cidr === vtep.cidr);
  const body = [why, make("ol", { class: "path", "aria-label": "The way of a packet" }, hops(status, vtep).map(drawHop)),
    drawGraphs(past && (track?.points ?? []))];
  const attributes = { class: "vtep", id: idOf(vtep), "aria-label": `VTEP ${label(vtep)}`, "data-verdict": vtep.verdict };
  return isFolded ? make("details", { ...attributes, open: opened.has(idOf(vtep)) ? "" : null }, make("summary", {}, heading), body)
    : make("article", attributes, make("header", {}, heading), body);
}

/* Trouble first; otherwise the order of the configuration. */
const byUrgency = (vteps) => [...vteps].sort((one, other) => URGENCY.indexOf(one.verdict) - URGENCY.indexOf(other.verdict));

function drawVteps(status) {
  const cards = byUrgency(status.vteps).map((vtep) => drawVtep(status, vtep));
  const parent = $("vteps");
  /* A VTEP that changes its place takes its element along, so that focus and selection stay with it. */
  cards.forEach(({ id }, n) => {
    if ($(id) && $(id) !== parent.childNodes[n]) parent.insertBefore($(id), parent.childNodes[n]);
  });
  renew(parent, cards);
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
  const bad = byUrgency(vteps).filter((vtep) => vtep.verdict !== "healthy");
  const errors = config.findings.filter((finding) => finding.severity === "error").length;
  const note = errors ? `${plural(errors, "error", "errors")} in ${config.truth === "crd" ? "the configuration" : "cilium-config"}: ${config.stale ? "last good values stay in force." : "see below."}` : "";
  if (!vteps.length) return ["No VTEP is in force", note];
  const tunnels = (n) => plural(n, "tunnel", "tunnels");
  if (!bad.length) {
    const all = vteps.length === 1 ? "The tunnel works" : vteps.length === 2 ? "Both tunnels work" : `All ${vteps.length} tunnels work`;
    return [`${all} from ${node}`, [note, "Tested from this node, not from a pod."].filter(Boolean).join(" ")];
  }
  const working = vteps.filter(works);
  const partly = working.filter((vtep) => vtep.verdict === "degraded").length;
  const sentence = bad.some((vtep) => vtep.cause) ? `${working.length} of ${tunnels(vteps.length)} ${working.length === 1 ? "works" : "work"} from ${node}${
    partly ? `, ${partly === working.length ? "but not well" : `${partly} of them not well`}` : ""}`
    : `Checking ${tunnels(vteps.length)} from ${node}`;
  /* The hint is below, at its VTEP. */
  const faults = bad.filter((vtep) => vtep.cause).flatMap((vtep, n) => [n ? "; " : "", make("a", { href: `#${idOf(vtep)}` }, label(vtep)), `: ${vtep.cause}`]);
  return [sentence, faults.length ? [faults, note ? `. ${note}` : ""] : note];
}

function draw(status) {
  shown = status;
  const { config, kernel, cilium, datapath, tap, bigip } = status;
  const [sentence, todo] = headline(status);
  set("verdict", sentence);
  renew($("todo"), [todo].flat(Infinity).map((part) => (part instanceof Node ? part : new Text(part))));
  set("who", `${status.version} on ${status.node}${status.mode === "observe" ? ", observe mode: writes nothing" : ""}`);
  document.title = `${SIGNS[TONES[status.verdict]]} ${status.node} – vtep-agent`;
  drawVteps(status);
  drawFacts("config", [
    ["source", config.source], ["truth", drawTruth(config)], ["state", config.valid ? "valid" : config.stale ? "in error: last good values in force" : "in error"],
    ["seen", config.observed_at ? `${ago(config.observed_at)} ago` : "not yet"], ["problem", config.source_error], ["hash", config.hash?.slice(0, 12)],
    ["overridden", Object.entries(config.overrides).map(([key, object]) => `${key} by ${object}`)]]);
  renew($("findings"), config.findings.map(drawFinding));
  drawFacts("node", [
    ["kernel", `${kernel.release}${kernel.supported ? "" : " (not supported)"}`], ["", kernel.reasons],
    ["Cilium", `${cilium.version ?? "version not known"}${cilium.running ? "" : cilium.agent_stopped_at ? `, its agent does not run since ${clock(cilium.agent_stopped_at)}` : ", not running"}`], ["", cilium.config_error],
    ["tunnel", cilium.tunnel_protocol ? `${cilium.tunnel_protocol}, UDP ${cilium.tunnel_port}, VNI 2` : null], ["mask", cilium.vtep_mask],
    ["restart", cilium.restart_required ? cilium.reasons.map((reason) => `Cilium needs one for ${reason}`) : "not needed"],
    ["FDB on BIG-IP", bigip.fdb_record ? `${bigip.fdb_record.mac} → ${bigip.fdb_record.endpoint}` : null],
    ["eBPF tap", tap.loaded ? "loaded" : tap.error ?? "not loaded"]]);
  const pass = datapath.last_pass;
  drawFacts("datapath", [
    ["state", datapath.in_sync ? "as configured" : "not as configured"], ["VTEP map", datapath.model],
    ["last check", pass ? `${clock(pass.at)}, took ${ms(pass.took_us)}` : "not yet"], ["repairs", String(datapath.repairs_total)],
    ["still to do", datapath.pending], ["problems", datapath.problems], ["contended", datapath.contended]]);
  set("as-of", `as of ${clock(Date.now())}, up for ${ago(status.started_at)}`);
}

function failoverWords({ changes, lost_ms }) {
  const words = { "tunnel-mac": "tunnel MAC", "underlay-mac": "underlay MAC", "self-ip": "self IP, endpoint" };
  const lost = lost_ms == null ? "pings are unanswered since" : lost_ms ? `pings were unanswered for ${(lost_ms / 1000).toFixed(1)} s` : "no ping was lost";
  return `${changes.map(({ kind, from, to }) => `${words[kind] ?? kind} ${from} → ${to}`).join(", ")}; ${lost}`;
}

function drawHistory() {
  const words = ({ verdict, cause }) => (cause ? `${verdict} (${cause})` : verdict);
  const move = ({ from, to }) => (from.endpoint === to.endpoint ? `moved: MAC ${from.mac} → ${to.mac}` : `moved: ${from.endpoint} → ${to.endpoint}`);
  const nameOf = (cidr) => label(shown?.vteps.find((vtep) => vtep.cidr === cidr) ?? { cidr });
  /* After a move nothing is known for a moment: that is no trouble. */
  const isSame = (from, to, moved) => words(from) === words(to) || (moved && to.verdict === "unknown");
  const entry = ({ at, cidr, from, to, repairs, route_repairs, moved, failover }) => make("li", {}, make("time", { datetime: at }, clock(at)),
    make("span", {}, `${nameOf(cidr)}: ${[moved ? move(moved) : null, failover ? `failover: ${failoverWords(failover)}` : null, isSame(from, to, moved) ? null : `${words(to)}, was ${words(from)}`,
      repairs ? `${plural(repairs, "repair", "repairs")} of the map entry` : null,
      route_repairs ? `${plural(route_repairs, "repair", "repairs")} of routes and rules` : null].filter(Boolean).join("; ")}`));
  renew($("changes"), past.changes.length ? past.changes.map(entry) : [make("li", { class: "none" }, "none since the agent started")]);
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
    past = history;
    drawHistory();
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

/* A person who compares with the agent's log, which is in UTC, may want the page so as well. The browser may refuse to remember it. */
function useUtc(is) {
  $("utc").setAttribute("aria-pressed", is);
  try { localStorage.setItem("utc", is); } catch { /* It is forgotten with the page. */ }
  if (shown) draw(shown);
  if (past) drawHistory();
}

try { useUtc(localStorage.getItem("utc") === "true"); } catch { /* The browser keeps nothing. */ }
$("utc").addEventListener("click", () => useUtc(!isUtc()));
$("vteps").addEventListener("toggle", ({ target }) => opened[target.open ? "add" : "delete"](target.id), true);
listen();
beat();
setInterval(beat, ASK_EVERY);
