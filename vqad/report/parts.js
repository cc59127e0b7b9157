// Images of one product part beside each other, under the verdict of the part.

let parts = new Map();  // the cards of each part; empty if they are not shown by part

const partOf = (card) => JSON.stringify([card.category, card.part?.[0] ?? null]);

// The cards of a part come in the place of the first of them.
function byPart(cards, isWanted) {
  parts = new Map();
  if (!isWanted) return cards;
  for (const card of cards) {
    if (!parts.has(partOf(card))) parts.set(partOf(card), []);
    parts.get(partOf(card)).push(card);
  }
  return [...parts.values()].flat();
}

function headingOf(card) {
  const shown = parts.get(partOf(card)).length;
  if (!card.part) return element("h3", { class: "part" }, `In no part: ${shown} image${shown > 1 ? "s" : ""} of ${card.category}`);
  const [name, verdict, images, rejects] = card.part;
  const facts = [card.category, `${images} image${images > 1 ? "s" : ""}`];
  if (rejects) facts.push(`${rejects} of them not inspected`);
  if (shown < images) facts.push(`${shown} of them here`);
  return element("h3", { class: `part ${verdict}` }, element("span", { class: "verdict" }, verdict),
    element("span", {}, "Part ", element("bdi", {}, name)), element("small", {}, facts.join(", ")));
}

// A part that goes on from the page before has its heading again.
function withHeadings(cards) {
  return cards.flatMap((card, at) => parts.size && (at === 0 || partOf(cards[at - 1]) !== partOf(card))
    ? [headingOf(card), cardOf(card)] : [cardOf(card)]);
}
