"use strict";
// The marks that a person gives to images: kept in the browser, and saved as JSON lines. Also what
// all of the page's script uses; parts.js and page.js follow in the same element.

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
const MARKS = { false_alarm: "False alarm", defect: "Defect", unsure: "Unsure" };
// The same marks in the words that fit an image that the detector calls normal.
const MARKS_OF_NORMAL = { false_alarm: "Is normal", defect: "Missed defect", unsure: "Unsure" };
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
  byId("said").textContent = "";
  showReview(card);
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
  if (!who) {
    byId("said").textContent = "Enter your name first, then save.";
    byId("who").focus();
    return;
  }
  const lines = finished().map((each) => JSON.stringify({ ...each, who: each.who || who }) + "\n");
  const file = `reviews-${data.run || data.id}.jsonl`;
  const link = element("a", { download: file });
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  byId("said").textContent = `Saved ${lines.length} mark${lines.length > 1 ? "s" : ""} as ${file}.`;
}

// ---- the buttons and the remark of a card -----------------------------------------------------

function choiceOf(card) {
  const row = element("div", { class: "choice" });
  const labels = card.verdict === "normal" ? MARKS_OF_NORMAL : MARKS;
  for (const [mark, label] of Object.entries(labels)) {
    const button = element("button", { type: "button", "data-mark": mark }, label);
    button.addEventListener("click", () => markCard(card, mark));
    row.append(button);
  }
  const remark = element("input", { placeholder: "remark", "aria-label": "remark", maxlength: "1000" });
  remark.addEventListener("input", () => review(card, { remark: remark.value.trim() }));
  const unfinished = element("p", { class: "unfinished", role: "status" }, "choose a mark, or the remark is not saved");
  row.append(remark, unfinished);
  row.card = card;
  fill(row);
  return row;
}

function markCard(card, mark) {
  review(card, { mark: marks[card.image]?.mark === mark ? "" : mark });
}

function fill(row) {
  const { mark, remark } = marks[row.card.image] ?? { mark: "", remark: "" };
  for (const button of row.querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.mark === mark);
  const field = row.querySelector("input");
  if (field !== document.activeElement) field.value = remark;
  row.querySelector(".unfinished").hidden = Boolean(mark || !remark);
}

// The large view and the card behind it show the same review.
function showReview(card) {
  for (const row of document.querySelectorAll(".choice")) if (row.card === card) fill(row);
}

