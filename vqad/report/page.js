// The cards of the page: filters, sorting, pages and the keyboard. All text of a card gets into the
// page as text, never as HTML.

const CARDS_PER_PAGE = 100;
const filters = byId("filters");
let found = data.cards;  // the cards that match, in their order
let page = 0;

// ---- cards ----------------------------------------------------------------------------------

const SIDES = { crop: (card) => card.crop, whole: (card) => [0, 0, ...card.size], restored: (card) => [0, 0, ...card.size] };

function picture(card, kind) {
  const [x, y, width, height] = SIDES[kind](card);
  const box = element("button", { type: "button", class: "picture", tabindex: "-1", "aria-label": "show large" });
  box.style.aspectRatio = `${width} / ${height}`;
  if (kind === "crop" && width < 256) box.classList.add("crisp");
  box.append(element("img", { src: `pictures/${card.pictures[kind]}`, alt: "", loading: "lazy", decoding: "async" }));
  if (kind !== "restored") box.append(overlay(card, x, y, width, height));
  box.addEventListener("click", () => showLarge(card));
  return box;
}

// Map and outline in pixels of the source, so that they fit on the whole image and on a part of it.
function overlay(card, x, y, width, height) {
  const svg = drawn("svg", { viewBox: `${x} ${y} ${width} ${height}`, preserveAspectRatio: "none" });
  if (card.pictures.map) {
    svg.append(drawn("image", {
      class: "heat", href: `pictures/${card.pictures.map}`, x: 0, y: 0, width: card.size[0],
      height: card.size[1], preserveAspectRatio: "none",
    }));
  }
  for (const kind of ["rim", "line"]) {
    if (card.map[0]) {
      const scale = `scale(${card.size[0] / card.map[0]} ${card.size[1] / card.map[1]})`;
      svg.append(drawn("path", { class: kind, d: card.outline, transform: scale }));
    } else {
      for (const [left, top, wide, high] of card.regions) {
        svg.append(drawn("rect", { class: kind, x: left, y: top, width: wide, height: high }));
      }
    }
  }
  return svg;
}

function captionOf(card, kind) {
  if (kind === "crop") {
    const [, , width, height] = card.crop;
    return `${card.regions.length ? "defect" : "highest score"}, ${width} × ${height} pixels`;
  }
  return kind === "whole" ? `whole image, ${card.size[0]} × ${card.size[1]}` : "what the detector expects (approximate)";
}

function picturesOf(card) {
  const figures = ["crop", "whole", "restored"].filter((kind) => card.pictures[kind]).map(
    (kind) => element("figure", {}, picture(card, kind), element("figcaption", {}, captionOf(card, kind))));
  if (card.pictures.whole && card.score !== null && !card.pictures.restored) {
    const none = element("div", { class: "none" }, "not made for this image");
    none.style.aspectRatio = card.size.join(" / ");
    figures.push(element("figure", {}, none, element("figcaption", {}, captionOf(card, "restored"))));
  }
  if (card.missing.whole !== undefined) {
    figures.push(element("div", { class: "none" }, `No picture: ${card.missing.whole}`));
  }
  return element("div", { class: "pictures" }, ...figures);
}

function factsOf(card) {
  const facts = [];
  if (card.error) facts.push(`${data.reasons[card.error] ?? card.error}${card.detail ? ` (${card.detail})` : ""}`);
  if (card.why.length) facts.push(`Why: ${card.why.map(([name, share]) => `${name} ${percent(share)}`).join(", ")}`);
  if (card.p !== null) facts.push(`${figure(100 * card.p)} % of normal images score as high`);
  if (regionOf(card)) facts.push(`${card.regions.length} region${card.regions.length > 1 ? "s" : ""}, the largest ${sizeOfLargest(card)}`);
  for (const kind of ["map", "restored"]) if (card.missing[kind]) facts.push(`${kind === "map" ? "Anomaly map" : "Restored picture"}: ${card.missing[kind]}`);
  if (card.threshold !== null) facts.push(`threshold ${figure(card.threshold)}${card.unit ? ` ${card.unit}` : ""}`);
  facts.push(`inspected ${card.at} UTC${card.version ? ` by ${card.version}` : ""}`);
  return facts.map((fact) => element("p", { class: "facts" }, fact));
}

function sizeOfLargest(card) {
  const size = regionOf(card);
  const at = card.regions.findIndex((region) => region[4] === size);
  const found = [`${size.toLocaleString("en")} pixels`];
  if (card.lengths[at]) found.push(`${figure(card.lengths[at])} pixels long`);
  if (card.mm[at]) found.push(`${figure(card.mm[at][0])} mm², ${figure(card.mm[at][1])} mm long`);
  return found.join(", ");
}

function headOf(card) {
  const head = element("header", {}, element("span", { class: "verdict" }, card.verdict));
  if (card.score !== null) {
    const times = card.threshold ? `${figure(card.severity)} × the threshold` : `${card.score > 0 ? "above" : "not above"} a threshold of 0`;
    head.append(element("span", { class: "score" }, `${times} (score ${figure(card.score)}${card.unit ? ` ${card.unit}` : ""})`));
  } else {
    head.append(element("span", {}, card.error));
  }
  head.append(element("bdi", { class: "tag" }, card.category));
  if (card.part) head.append(element("bdi", { class: "tag" }, `part ${card.part[0]}`));
  if (card.borderline) head.append(element("span", { class: "tag" }, "borderline"));
  return head;
}

function nameOf(card) {
  const copy = element("button", { type: "button", title: "copy the full path" }, "Copy path");
  copy.addEventListener("click", async () => {
    copy.textContent = await copied(card.path) ? "Copied" : "Not copied";
    setTimeout(() => { copy.textContent = "Copy path"; }, 1500);
  });
  return element("div", { class: "name" }, element("bdi", { title: card.path }, card.name), copy);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {  // a page from a folder or by plain HTTP may not use the clipboard: select and copy
    const field = element("textarea", { readonly: "" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

function cardOf(card) {
  const shown = element("article", { class: `card ${card.verdict}`, tabindex: "0", "aria-label": `${card.verdict} ${card.name}` });
  shown.append(headOf(card), picturesOf(card), nameOf(card), ...factsOf(card), choiceOf(card));
  shown.card = card;
  return shown;
}

function showLarge(card) {
  const inside = byId("large").querySelector("div");
  inside.replaceChildren(headOf(card), choiceOf(card), picturesOf(card), element("p", { class: "path" }, card.path));
  byId("large").className = `card ${card.verdict}`;
  byId("large").card = card;
  byId("large-previous").disabled = card === found[0];
  byId("large-next").disabled = card === found.at(-1);
  if (!byId("large").open) byId("large").showModal();
}

// The page follows, so that the card is there when the large view is closed.
function moveLarge(step) {
  const at = found.indexOf(byId("large").card) + step;
  if (!found[at]) return;
  if (Math.floor(at / CARDS_PER_PAGE) !== page) showPage(Math.floor(at / CARDS_PER_PAGE));
  showLarge(found[at]);
}

function largeWasClosed() {
  const { card, open } = byId("large");
  if (open) return;  // it was opened again meanwhile
  byId("large").querySelector("div").replaceChildren();
  [...document.querySelectorAll("#cards .card")].find((shown) => shown.card === card)?.focus();
}

// ---- filters, sorting, pages ------------------------------------------------------------------

const SORTED_BY = {
  severity: (card) => -(card.severity ?? -1),
  threshold: (card) => card.severity === null ? Infinity : Math.abs(card.severity - 1),
  region: (card) => -regionOf(card),
};

function matches(card, wanted) {
  const within = (value, from, to) => (from === "" || (value !== null && value >= Number(from)))
    && (to === "" || (value !== null && value <= Number(to)));
  return (!wanted.verdict || card.verdict === wanted.verdict || (wanted.verdict === "borderline" && card.borderline))
    && (!wanted.category || card.category === wanted.category)
    && (!wanted.error || card.error === wanted.error)
    && (!wanted.mark || (marks[card.image]?.mark || "none") === wanted.mark)
    && (!wanted.latest || card.run === data.run)
    && within(card.severity, wanted.score_from, wanted.score_to)
    && within(regionOf(card), wanted.region_from, wanted.region_to)
    && (!wanted.text || `${card.path}\n${card.image}`.toLowerCase().includes(wanted.text.toLowerCase()));
}

function compared(name) {
  if (name === "path") return (a, b) => a.path < b.path ? -1 : Number(a.path > b.path);
  if (name === "newest") return (a, b) => a.at < b.at ? 1 : -Number(a.at > b.at);
  const value = SORTED_BY[name];
  return (a, b) => (value(a) > value(b)) - (value(a) < value(b));
}

function apply() {
  const wanted = Object.fromEntries(new FormData(filters));
  found = data.cards.filter((card) => matches(card, wanted)).sort(compared(wanted.sort));
  found = byPart(found, Boolean(wanted.parts));
  showPage(0);
}

function showPage(number) {
  const pages = Math.max(1, Math.ceil(found.length / CARDS_PER_PAGE));
  page = Math.min(Math.max(0, number), pages - 1);
  const first = page * CARDS_PER_PAGE;
  const shown = found.slice(first, first + CARDS_PER_PAGE);
  byId("cards").replaceChildren(...withHeadings(shown));
  const range = `Cards ${first + 1} to ${first + shown.length} of ${found.length}.`;
  byId("shown").textContent = found.length
    ? `${range} ${data.cards.length.toLocaleString("en")} of ${data.images.toLocaleString("en")} images have a card.`
    : "No card matches these filters.";
  byId("page").textContent = `page ${page + 1} of ${pages}`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = page === pages - 1;
}

function turnPage(step) {
  showPage(page + step);
  filters.scrollIntoView();
}

// ---- switches and keyboard ----------------------------------------------------------------------

function toggle(name) {
  const isOn = document.body.classList.toggle(`no-${name}`) === false;
  byId(name).setAttribute("aria-pressed", isOn);
}

function move(step) {
  if (byId("large").open) return moveLarge(step);
  const shown = [...document.querySelectorAll("#cards .card")];
  const at = shown.indexOf(document.activeElement.closest?.("#cards .card"));
  const next = at < 0 ? 0 : at + step;
  if (next >= shown.length && !byId("next").disabled) {
    showPage(page + 1);
    document.querySelector("#cards .card").focus();
  } else if (next < 0 && page > 0) {
    showPage(page - 1);
    [...document.querySelectorAll("#cards .card")].at(-1).focus();
  } else {
    shown[Math.min(Math.max(0, next), shown.length - 1)]?.focus();
  }
}

const OF_PAGE = {
  j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1),
  m: () => toggle("map"), o: () => toggle("outline"), "/": () => filters.elements.text.focus(),
  "?": () => { byId("help").open = !byId("help").open; byId("help").scrollIntoView({ block: "nearest" }); },
};
const OF_CARD = {
  f: (shown) => markCard(shown.card, "false_alarm"),
  d: (shown) => markCard(shown.card, "defect"),
  u: (shown) => markCard(shown.card, "unsure"),
  x: (shown) => markCard(shown.card, marks[shown.card.image]?.mark ?? ""),
  r: (shown) => shown.querySelector(".choice input").focus(),
  Enter: (shown) => showLarge(shown.card),
};
const OF_LARGE = ["j", "k", "ArrowRight", "ArrowLeft", "m", "o", "f", "d", "u", "x", "r"];

function pressed(event) {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const large = byId("large").open ? byId("large") : null;
  if (target.matches("input, select, textarea")) {
    // Escape and Enter leave a field; all other keys are its own.
    if (large && event.key === "Enter") target.blur();
    else if (event.key === "Escape" || event.key === "Enter") (target.closest(".card") ?? target).focus();
    if (event.key === "Escape" && !target.closest(".card")) target.blur();
    return;
  }
  if (large && !OF_LARGE.includes(event.key)) return;
  const shown = large ?? target.closest("#cards .card");
  const isButton = target.matches("button, summary, a") && event.key === "Enter";
  const action = OF_PAGE[event.key] ?? (shown && !isButton ? OF_CARD[event.key] : undefined);
  if (!action) return;
  event.preventDefault();
  action(shown);
}

function start() {
  marks = keptMarks();
  byId("who").value = kept(NAME_KEPT_AS) ?? "";
  document.body.classList.add("no-map");
  filters.addEventListener("input", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(apply));
  byId("who").addEventListener("change", () => keep(NAME_KEPT_AS, byId("who").value.trim()));
  byId("save").addEventListener("click", saveMarks);
  byId("map").addEventListener("click", () => toggle("map"));
  byId("outline").addEventListener("click", () => toggle("outline"));
  byId("previous").addEventListener("click", () => turnPage(-1));
  byId("next").addEventListener("click", () => turnPage(1));
  byId("large-previous").addEventListener("click", () => moveLarge(-1));
  byId("large-next").addEventListener("click", () => moveLarge(1));
  byId("large").addEventListener("close", largeWasClosed);
  document.addEventListener("keydown", pressed);
  // Pictures further down are loaded when they come into sight; paper needs all of them.
  window.addEventListener("beforeprint", () => {
    for (const image of document.querySelectorAll("img[loading]")) image.loading = "eager";
  });
  showNumberOfMarks();
  apply();
}

start();
