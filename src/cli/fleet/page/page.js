"use strict";

const TONES = { healthy: "ok", degraded: "degraded", unreachable: "failed", misconfigured: "failed", unknown: "unknown" };
/* A cell says its verdict without its colour, too. */
const SIGNS = { healthy: "", degraded: "!", unreachable: "✕", misconfigured: "≠", unknown: "?" };
const RECONNECT = 3000;

const $ = (id) => document.getElementById(id);
let drawn = ""; /* what the map shows, so that it is drawn again only if it changed */

/* Elements are made from values and never from markup: names and hints come from the cluster. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) if (value != null) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== ""));
  return element;
}

const plural = (n) => `${n} ${n === 1 ? "node" : "nodes"}`;
const clock = (at) => new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
/* A VTEP with a name may have any gateway at its far end. */
const label = ({ cidr, endpoint }, name) => (name ? `${name} (${cidr} at ${endpoint})` : `BIG-IP ${endpoint} (${cidr})`);

function sum({ asked, summary: { nodes, answered, healthy, trouble, unanswered } }) {
  if (!nodes) return `no node matches: ${asked.answered} of ${asked.agents} ${asked.agents === 1 ? "agent" : "agents"} answered`;
  return [`${healthy} of ${plural(answered)} healthy`, trouble ? `${trouble} with trouble` : null,
    unanswered ? `${unanswered} without an answer` : null].filter(Boolean).join(", ");
}

const WORDS = { "node-age": "added", zone: "in zone", "cilium-version": "with Cilium", "agent-version": "with vtep-agent", kernel: "with kernel",
  config: "with configuration", mode: "in mode", "os-image": "with image", "instance-type": "with instance type" };

function shared({ attribute, value, others }, nodes) {
  return `all ${WORDS[attribute] ?? attribute} ${value}${others ? ` (${nodes} of ${nodes + others})` : ", as no other node"}`;
}

function drawGroup(group) {
  const { verdict, cause, nodes, of, folded, hint, hint_from, same_hint, first_since, last_since, common, runbook } = group;
  const share = nodes.length === of ? `all ${plural(of)}` : `${nodes.length} of ${plural(of)}`;
  const since = first_since ? `since ${clock(first_since)}${last_since === first_since ? "" : `, the last of them since ${clock(last_since)}`}` : null;
  return make("li", { class: TONES[verdict] },
    make("h3", {}, `${verdict}${cause ? `, ${cause}` : ""}: ${label(group, group.name)} on ${share}`),
    make("p", {}, folded),
    since ? make("p", { class: "soft" }, since) : null,
    common.length ? make("p", { class: "soft" }, common.map((one) => shared(one, nodes.length)).join("; ")) : null,
    hint ? make("p", {}, same_hint ? hint : `${hint_from}: ${hint}`) : null,
    /^https?:/.test(runbook ?? "") ? make("p", {}, make("a", { href: runbook }, `Runbook: ${cause}`)) : null);
}

function drawCell(node, vtep) {
  const words = `${node.node}: ${vtep.verdict}${vtep.cause ? `, ${vtep.cause}` : ""}`;
  const href = `nodes/${encodeURIComponent(node.node)}/#vtep-${vtep.cidr}`;
  return make("li", {}, make("a", { class: `cell ${TONES[vtep.verdict]}`, href, title: words, "aria-label": words }, SIGNS[vtep.verdict]));
}

function drawRow(row, nodes) {
  const isThis = (vtep) => vtep.cidr === row.cidr && vtep.endpoint === row.endpoint;
  const cells = nodes.flatMap((node) => node.vteps.filter(isThis).map((vtep) => drawCell(node, vtep)));
  const name = label(row, row.names.join(", "));
  return make("div", { class: "row" },
    make("h3", {}, `${name} `, make("small", {}, `${row.verdicts.healthy} of ${plural(row.nodes)} healthy`)),
    make("ul", { class: "cells", "aria-label": `Nodes of ${name}` }, cells));
}

function drawRest(report) {
  const rows = report.differences.map(({ what, values }) => [what.replaceAll("-", " "), values.map(({ value, nodes, folded }, n) =>
    make("div", {}, `${value ?? "not known"}: ${n ? folded : plural(nodes.length)}`))]);
  if (report.without_agent?.length) rows.push(["Cilium without an agent", report.without_agent.join(", ")]);
  for (const { reason, folded } of report.unanswered) rows.push(["no answer", `${reason}: ${folded}`]);
  for (const note of report.notes) rows.push(["note", note]);
  $("rest").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  $("rest-section").hidden = !rows.length;
}

function draw(report) {
  const { asked, summary } = report;
  const isHealthy = summary.nodes ? summary.healthy === summary.nodes : asked.with_vtep && asked.answered === asked.agents;
  set("sum", sum(report));
  document.title = `${isHealthy ? "✓" : "✕"} ${sum(report)} – vtep-agent fleet`;
  const shown = JSON.stringify([report.trouble, report.vteps, report.nodes, report.differences, report.unanswered, report.without_agent]);
  if (shown !== drawn) {
    drawn = shown;
    const focused = document.activeElement?.getAttribute("aria-label");
    $("trouble").replaceChildren(...report.trouble.map(drawGroup));
    $("trouble-section").hidden = !report.trouble.length;
    $("map").replaceChildren(...report.vteps.map((row) => drawRow(row, report.nodes)));
    set("legend", "Each square is a node: ✕ unreachable, ≠ misconfigured, ! degraded, ? not known. It leads to the page of its agent.");
    drawRest(report);
    if (focused) [...document.querySelectorAll(".cell")].find((cell) => cell.getAttribute("aria-label") === focused)?.focus();
  }
  set("as-of", `as of ${clock(report.at)}`);
}

function link(state, words) {
  $("link").dataset.state = state;
  set("link-text", words);
}

function onReport(report) {
  if (report == null) return;
  document.body.classList.toggle("old", Boolean(report.error));
  $("lost").hidden = !report.error;
  if (report.error) {
    set("lost", report.error);
    return;
  }
  link("live", "live");
  draw(report);
}

function listen() {
  const events = new EventSource("events");
  events.onopen = () => link("live", "live");
  events.onmessage = (event) => onReport(JSON.parse(event.data));
  events.onerror = () => {
    link("lost", "lost");
    document.body.classList.add("old");
    $("lost").hidden = false;
    set("lost", "vtep-agent fleet does not answer: what is below is old. This page goes on asking.");
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, RECONNECT);
  };
}

listen();
