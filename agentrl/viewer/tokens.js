// Texts and tokens as elements. Whatever a model or an environment wrote enters the page as text, never as markup.

const CLIP = 4000; // letters or tokens shown before somebody asks for more
const MORE = 100000;

/** An element with a class; children are elements or texts. */
function element(tag, name, ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children);
  return node;
}

function button(name, label, action) {
  const node = element("button", name, label);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
}

/** A number for people. */
function figure(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return Number(value.toPrecision(digits)).toString().replace(/^(-?)0\./, "$1.");
}

const SURPRISE = [0.05, 0.3, 0.7, 1.5, 3, 5]; // nats
const GAP = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]; // nats
const heat = (value, edges) => {
  const level = edges.filter((edge) => value >= edge).length;
  return level ? `h${level}` : "z";
};

/** By what sampled tokens are coloured: the number of a token (null: not known), and its class. */
const COLOURS = {
  mask: { about: "sampled by the policy, so learned from", value: () => 1, paint: () => "m", swatches: [["m", "sampled"]] },
  advantage: {
    key: "d",
    about: "how much better than its siblings",
    value: (turn, k) => turn.advantages?.[k] ?? null,
    paint: (value) => {
      const level = Math.ceil(4 * Math.min(1, Math.abs(value) / (head.scales.d || 1)));
      return level ? `${value > 0 ? "p" : "n"}${level}` : "z";
    },
    get swatches() {
      const high = head.scales.d || 1;
      const steps = [-4, -2, 2, 4].map((n) => [`${n > 0 ? "p" : "n"}${Math.abs(n)}`, figure((n / 4) * high, 2)]);
      return [...steps.slice(0, 2), ["z", "0"], ...steps.slice(2)];
    },
  },
  logprob: {
    key: "l",
    about: "how unlikely the engine held it, −log p in nats",
    value: (turn, k) => turn.logprobs?.[k] ?? null,
    paint: (value) => heat(-value, SURPRISE),
    swatches: SURPRISE.map((edge, i) => [`h${i + 1}`, `${figure(edge)}`]),
  },
  gap: {
    key: "g",
    about: "log p of the learner against that of the engine, nats apart",
    value: (turn, k) => (turn.learner && turn.logprobs ? turn.learner[k] - turn.logprobs[k] : null),
    paint: (value) => heat(Math.abs(value), GAP),
    swatches: GAP.map((edge, i) => [`h${i + 1}`, edge.toExponential(0)]),
  },
  entropy: {
    key: "h",
    about: "of the learner's distribution, nats",
    value: (turn, k) => turn.entropies?.[k] ?? null,
    paint: (value) => heat(value, SURPRISE),
    swatches: SURPRISE.map((edge, i) => [`h${i + 1}`, `${figure(edge)}`]),
  },
};
/** Those that this run's files can show. */
const KNOWN = Object.keys(COLOURS).filter((name) => !COLOURS[name].key || COLOURS[name].key in head.scales);

/** What a token's span stands for: [turn, place among the sampled ones]. */
const spans = new WeakMap();

/** The sampled tokens of a turn, coloured. */
function sampledTokens(turn, texts, colour) {
  const node = element("div", "tokens");
  const { value, paint } = COLOURS[colour];
  inParts(node, turn.ids.length, "tokens", (from, to) =>
    turn.ids.slice(from, to).map((id, place) => {
      const k = from + place;
      const number = value(turn, k);
      const span = tokenSpan(id, texts, `s ${number === null || Number.isNaN(number) ? "u" : paint(number)}`);
      if (k === turn.ids.length - 1 && turn.finish === "stop") span.classList.add("end");
      spans.set(span, [turn, k]);
      return span;
    }),
  );
  return node;
}

/** The tokens of a prompt that were not there before. */
function promptTokens(turn, texts) {
  const told = turn.shared ? `${turn.shared} tokens as before, then ${turn.prompt.length}` : `${turn.prompt.length} tokens`;
  const node = element("div", "tokens prompt", element("span", "what", `prompt: ${told}`));
  inParts(node, turn.prompt.length, "tokens", (from, to) =>
    turn.prompt.slice(from, to).map((id) => tokenSpan(id, texts, "")),
  );
  return node;
}

function tokenSpan(id, texts, name) {
  const text = texts.get(id);
  return element("span", `t ${name}`, text ? text.replace(/\n/g, "↵\n") : `⟨${id}⟩`);
}

/** What is known of one sampled token, in a line. */
function tokenFacts(turn, k, texts) {
  const known = [
    ["id", turn.ids[k]],
    ["advantage", turn.advantages && figure(turn.advantages[k], 4)],
    ["log p", turn.logprobs && figure(turn.logprobs[k], 4)],
    ["learner's log p", turn.learner && figure(turn.learner[k], 4)],
    ["entropy", turn.entropies && figure(turn.entropies[k], 3)],
  ];
  const facts = known.filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`);
  return [JSON.stringify(texts.get(turn.ids[k]) ?? ""), ...facts].join("   ");
}

/** A text as it is, the first part of it if it is long. */
function textNode(text, name) {
  const node = element("div", `text ${name}`);
  node.dir = "auto";
  inParts(node, text.length, "characters", (from, to) => [text.slice(from, to)]);
  return node;
}

/** Fill a node with a first part, and with a button for what is left. */
function inParts(node, length, what, part, from = 0, size = CLIP) {
  const to = Math.min(length, from + size);
  node.append(...part(from, to));
  if (to === length) return;
  const more = button("more", `${(length - to).toLocaleString("en")} more ${what}`, () => {
    more.remove();
    inParts(node, length, what, part, to, MORE);
  });
  node.append(more);
}

/** Mark the query, in lower case, where it stands in the messages of a node. */
function highlight(root, query) {
  if (!globalThis.Highlight) return;
  const ranges = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (query && ranges.length < 1000 && walker.nextNode()) {
    const node = walker.currentNode;
    const text = node.data.toLowerCase();
    if (!node.parentNode.closest(".text") || text.length !== node.data.length) continue;
    for (let from = text.indexOf(query); from >= 0; from = text.indexOf(query, from + query.length)) {
      const range = new Range();
      range.setStart(node, from);
      range.setEnd(node, from + query.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}
