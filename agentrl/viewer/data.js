"use strict";

// What the page holds: blocks that are unpacked when somebody wants them (agentrl/viewer/pack.py says what is in each).

const head = JSON.parse(document.getElementById("head").textContent);

/** The bytes of a base64 text. */
function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** The value of a block: JSON, packed by gzip, in base64. */
async function unpack(name) {
  const packed = bytesOf(JSON.parse(document.getElementById(name).textContent));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** A function that keeps its answers to the last `most` questions. */
function remembered(ask, most = Infinity) {
  const known = new Map();
  return (key) => {
    if (!known.has(key)) known.set(key, ask(key));
    if (known.size > most) known.delete(known.keys().next().value);
    return known.get(key);
  };
}

const playBlock = remembered((number) => unpack(`plays${number}`), 64);
const textBlock = remembered((number) => unpack(`text${number}`));
/** The text of each token by its id. */
const pieces = remembered(async () => {
  const { ids, texts } = await unpack("pieces");
  return new Map(texts.map((text, place) => [ids[place], text]));
});

/** The last place in the rising `starts` that is not above `value`. */
function placeOf(starts, value) {
  let low = 0;
  let high = starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= value) low = middle;
    else high = middle;
  }
  return low;
}

async function textOf(ref) {
  const block = placeOf(head.textStarts, ref);
  return (await textBlock(block))[ref - head.textStarts[block]];
}

async function messagesOf(said) {
  return Promise.all(said.map(async ([role, ref]) => ({ role, text: await textOf(ref) })));
}

/** One play in full: every text in its place, one number for each sampled token where the run knows it (else null). */
async function playOf(index, number) {
  const packed = (await playBlock(Math.floor(number / head.block)))[number % head.block];
  const spread = (values, ids) => (values === undefined ? null : Array.isArray(values) ? values : ids.map(() => values));
  const turns = packed.turns.map(async (turn) => ({
    action: await textOf(turn.a),
    said: await messagesOf(turn.o),
    shared: turn.p[0],
    prompt: turn.p[1],
    ids: turn.i,
    logprobs: spread(turn.l, turn.i),
    advantages: spread(turn.d, turn.i),
    learner: spread(turn.g, turn.i),
    entropies: spread(turn.h, turn.i),
    reward: turn.r,
    parsed: turn.ok,
    finish: turn.end,
    version: turn.v,
    info: turn.n ?? "",
  }));
  return {
    number,
    ...index.facts(number),
    parts: packed.parts,
    error: packed.error === undefined ? "" : await textOf(packed.error),
    first: await messagesOf(packed.first),
    turns: await Promise.all(turns),
  };
}

/** What is known of every play without unpacking it. */
class Index {
  constructor(columns) {
    Object.assign(this, columns);
    this.count = this.step.length;
    this.numbers = new Map();
    this.groups = new Map();
    for (let i = 0; i < this.count; i++) {
      this.numbers.set(this.name(i), i);
      const group = `${this.step[i]}.${this.group[i]}`;
      if (!this.groups.has(group)) this.groups.set(group, []);
      this.groups.get(group).push(i);
    }
    this.allSteps = [...new Set(this.step)].sort((a, b) => a - b);
  }

  /** step.group.member: what links and the command line call it. */
  name(i) {
    return `${this.step[i]}.${this.group[i]}.${this.member[i]}`;
  }

  siblings(i) {
    return this.groups.get(`${this.step[i]}.${this.group[i]}`);
  }

  facts(i) {
    return {
      name: this.name(i),
      step: this.step[i],
      group: this.group[i],
      copy: this.copy[i],
      member: this.member[i],
      weight: this.weight[i],
      success: this.success[i] === 1,
      reward: this.reward[i],
      env: this.env[i],
      tokens: this.tokens[i],
      length: this.turns[i],
      task: this.tasks[this.task[i]],
      family: this.familys[this.family[i]],
      stop: this.stops[this.stop[i]],
    };
  }

  /** Plays of a step, those of the same task first, then those of its family. */
  alike(number, step) {
    const { task, family, member } = this;
    const rank = (i) => (task[i] === task[number] ? 0 : family[i] === family[number] ? 1 : 2);
    const plays = [];
    for (let i = 0; i < this.count; i++) if (this.step[i] === step && i !== number) plays.push(i);
    const near = (i) => Math.abs(member[i] - member[number]);
    return plays.sort((a, b) => rank(a) - rank(b) || near(a) - near(b) || a - b);
  }

  /** The play of another step that says most beside this one: of the same task or family, and as far away as can be. */
  likeness(number) {
    const { task, family, step, allSteps } = this;
    const away = (i) => Math.abs(step[i] - step[number]);
    const rank = (i) => (task[i] === task[number] ? 0 : 1);
    let best = -1;
    for (let i = 0; i < this.count; i++) {
      if (step[i] === step[number] || (task[i] !== task[number] && family[i] !== family[number])) continue;
      if (best < 0 || rank(i) < rank(best) || (rank(i) === rank(best) && away(i) > away(best))) best = i;
    }
    const [first, last] = [allSteps[0], allSteps.at(-1)];
    const far = step[number] - first > last - step[number] ? first : last;
    return this.alike(number, best < 0 ? far : step[best])[0] ?? number;
  }

  /** The plays that pass a filter, in its order. `hits[i]`: does play i hold the text that is sought (null: none is)? */
  filtered(filter, hits) {
    const edge = (text, none) => (text.trim() === "" || Number.isNaN(Number(text)) ? none : Number(text));
    const [from, to] = [edge(filter.from, -Infinity), edge(filter.to, Infinity)];
    const [low, high] = [edge(filter.low, -Infinity), edge(filter.high, Infinity)];
    const bounded = low > -Infinity || high < Infinity;
    const task = filter.task.toLowerCase();
    const tasks = task ? this.tasks.map((name) => name.toLowerCase().includes(task)) : null;
    const families = task ? this.familys.map((name) => name.toLowerCase().includes(task)) : null;
    const stop = this.stops.indexOf(filter.stop);
    const success = { yes: 1, no: 0 }[filter.success];
    const found = [];
    for (let i = 0; i < this.count; i++) {
      if (this.step[i] < from || this.step[i] > to) continue;
      if (bounded && (this.reward[i] === null || this.reward[i] < low - 1e-9 || this.reward[i] > high + 1e-9)) continue;
      if (filter.stop && this.stop[i] !== stop) continue;
      if (success !== undefined && this.success[i] !== success) continue;
      if (tasks && !tasks[this.task[i]] && !families[this.family[i]]) continue;
      if (hits && !hits[i]) continue;
      found.push(i);
    }
    return SORTS[filter.sort] ? found.sort((a, b) => SORTS[filter.sort](this, a, b) || a - b) : found;
  }
}

const SORTS = {
  "best first": (index, a, b) => index.reward[b] - index.reward[a],
  "worst first": (index, a, b) => index.reward[a] - index.reward[b],
  "longest first": (index, a, b) => index.tokens[b] - index.tokens[a],
};

/** Finds text in all plays. Each distinct text is looked at once, joined with others, so that one search is one sweep. */
class Search {
  constructor(index) {
    this.index = index;
    this.blocks = [];
    this.last = { query: "", hits: null };
    this.done = false;
  }

  /** Resolves when there is all to search in; reading begins with the first who asks. */
  get ready() {
    this.reading ??= this.load();
    return this.reading;
  }

  async load() {
    for (let number = 0; number < head.textStarts.length; number++) {
      const texts = (await textBlock(number)).map((text) => text.toLowerCase());
      const starts = new Uint32Array(texts.length);
      for (let i = 1; i < texts.length; i++) starts[i] = starts[i - 1] + texts[i - 1].length + 1;
      this.blocks.push({ joined: texts.join("\0"), starts });
    }
    this.done = true;
    performance.mark("searchable");
  }

  /** hits[i] is 1 where an action, an observation or an error of play i holds the query; null for an empty one. */
  hits(query) {
    if (query === "") return null;
    if (query === this.last.query) return this.last.hits;
    const texts = this.texts(query.toLowerCase());
    const hits = new Uint8Array(this.index.count);
    const { refs, ends } = this.index;
    for (let play = 0, at = 0; play < hits.length; play++)
      for (; at < ends[play]; at++) if (texts[refs[at]]) hits[play] = 1;
    this.last = { query, hits };
    return hits;
  }

  texts(query) {
    const found = new Uint8Array(head.texts);
    this.blocks.forEach(({ joined, starts }, block) => {
      for (let at = joined.indexOf(query); at >= 0; ) {
        const place = placeOf(starts, at);
        found[head.textStarts[block] + place] = 1;
        at = place + 1 < starts.length ? joined.indexOf(query, starts[place + 1]) : -1;
      }
    });
    return found;
  }
}
