"use strict";
// The marks that a person gives to images: kept in the browser, and saved as JSON lines. Also what
// all of the page's script uses; page.js follows in the same element.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// ---- small helpers ------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const figure = (value) => value === null ? "–" : Number(value.toPrecision(3)).toLocaleString("en");
const percent = (share) => `${Math.round(100 * share)} %`;
const regionOf = (card) => Math.max(0, ...card.regions.map((region) => region[4]));

// ---- marks: kept in the browser, saved as JSON lines ----------------------------------------

const KEPT_AS = `vqad marks ${data.id}`;
const NAME_KEPT_AS = "vqad reviewer";
const MARKS = [["false_alarm", "False alarm"], ["defect", "Defect"], ["unsure", "Unsure"]];
let marks = {};  // a review by image

function kept(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function keptMarks() {
  try { return JSON.parse(kept(KEPT_AS)) ?? {}; } catch { return {}; }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    byId("problem").hidden = false;
    byId("problem").textContent = "This browser keeps nothing for this page: save your marks before you close it.";
  }
}

function review(card, changes) {
  const before = marks[card.image] ?? { mark: "", remark: "" };
  const after = { ...before, ...changes };
  if (after.mark || after.remark) {
    marks[card.image] = {
      image: card.image, category: card.category, mark: after.mark, remark: after.remark,
      who: byId("who").value.trim(), at: new Date().toISOString(), run: card.run,
      model_version: card.version, score: card.score,
    };
  } else {
    delete marks[card.image];
  }
  keep(KEPT_AS, JSON.stringify(marks));
  showNumberOfMarks();
}

function showNumberOfMarks() {
  const number = finished().length;
  byId("save").disabled = !number;
  byId("save").textContent = number ? `Save marks (${number})` : "Save marks";
}

// A remark without a mark is no review yet.
const finished = () => Object.values(marks).filter((each) => each.mark);

function saveMarks() {
  const who = byId("who").value.trim();
  const lines = finished().map((each) => JSON.stringify({ ...each, who: each.who || who }) + "\n");
  const link = element("a", { download: `reviews-${data.run || data.id}.jsonl` });
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

