// The page: filters and list on the left, the chosen play on the right; all of it also by keys and by links.

const ROW = 44; // pixels of a row of the list
const ANY = "any";
const KEYS = [
  ["j k  ↓ ↑", "next and previous play of the list"],
  ["[ ]", "previous and next member of the group"],
  ["e s t", "episode, siblings, two steps"],
  ["c", "colour tokens by something else"],
  ["p", "show the tokens of prompts"],
  ["/", "search; Esc leaves the field"],
  ["x", "clear all filters"],
  ["d", "light or dark"],
];
const SHOWN = [["play", "episode"], ["siblings", "siblings"], ["steps", "two steps"]];
const at = (id) => document.getElementById(id);

class Page {
  constructor(index) {
    this.index = index;
    this.search = new Search(index);
    this.state = readLink(location.hash);
    this.drawn = 0; // numbers drawings, so that a slow one does not overwrite a later one
    this.scene = ""; // which plays are on the screen, and how
    this.found = [];
    this.heading();
    this.controls();
    this.keys();
    addEventListener("hashchange", () => this.follow());
    this.follow();
  }

  /** Take the state from the address. */
  follow() {
    this.state = readLink(location.hash);
    if (!KNOWN.includes(this.state.colour)) this.state.colour = "mask";
    for (const key of FILTERS) at(`f-${key}`).value = this.state[key] || (at(`f-${key}`).tagName === "SELECT" ? ANY : "");
    this.filter();
    this.reveal();
  }

  /** Change the state, and the address with it. */
  set(changes) {
    Object.assign(this.state, changes);
    history.replaceState(null, "", linkOf(this.state));
  }

  get number() {
    return this.index.numbers.get(this.state.play) ?? this.found[0];
  }

  heading() {
    document.title = head.title;
    at("title").textContent = head.run;
    at("about").append(...Object.entries(head.about).map(([name, value]) => element("span", "fact", element("i", "", name), ` ${value}`)));
    if (head.untold) at("about").append(element("span", "minus", `tokens are shown as numbers: ${head.untold}`));
    at("keys").append(element("h2", "", "keys"), ...KEYS.map(([key, what]) => element("p", "", element("kbd", "", key), what)));
    at("keys").addEventListener("click", () => at("keys").close());
    at("help").addEventListener("click", () => at("keys").showModal());
    at("theme").addEventListener("click", () => this.theme());
  }

  theme() {
    const dark = getComputedStyle(document.documentElement).getPropertyValue("--dark").trim() === "1";
    document.documentElement.className = dark ? "light" : "dark";
  }

  controls() {
    const choices = {
      success: [[ANY, "outcome"], ["yes", "success"], ["no", "no success"]],
      stop: [[ANY, "ending"], ...this.index.stops.map((stop) => [stop, stop])],
      sort: [USUAL.sort, ...Object.keys(SORTS)].map((order) => [order, order]),
    };
    for (const [key, values] of Object.entries(choices))
      at(`f-${key}`).append(...values.map(([value, label]) => Object.assign(element("option", "", label), { value })));
    at("filters").addEventListener("submit", (event) => event.preventDefault());
    at("filters").addEventListener("input", () => {
      const value = (key) => (at(`f-${key}`).value === ANY ? "" : at(`f-${key}`).value);
      this.set(Object.fromEntries(FILTERS.map((key) => [key, value(key)])));
      this.filter();
    });
    at("all").addEventListener("click", (event) => {
      event.preventDefault();
      this.clear();
    });
    at("list").addEventListener("scroll", () => this.rows());
    new ResizeObserver(() => this.rows()).observe(at("list"));
    at("view").addEventListener("mouseover", (event) => this.tip(event));
    at("view").addEventListener("mouseleave", () => (at("tip").hidden = true));
    at("view").addEventListener("scroll", () => (at("tip").hidden = true));
  }

  clear() {
    this.set(Object.fromEntries(FILTERS.map((key) => [key, USUAL[key]])));
    this.follow();
  }

  /** The plays that pass the filter, in the list. */
  filter() {
    const query = this.state.text;
    if (query && !this.search.done) {
      at("count").textContent = "reading …";
      this.search.ready.then(() => this.state.text === query && this.filter());
      return;
    }
    this.found = this.index.filtered(this.state, this.search.hits(query));
    this.places = null;
    const won = this.found.reduce((sum, i) => sum + this.index.success[i], 0);
    const count = this.found.length;
    at("count").textContent = count === this.index.count ? `${count.toLocaleString("en")} plays` : `${count.toLocaleString("en")} of ${this.index.count.toLocaleString("en")}`;
    at("rate").textContent = count ? `${((100 * won) / count).toFixed(0)} % succeed` : "no play fits the filters";
    at("rows").style.height = `${count * ROW}px`;
    const strip = stripNode(this.index, this.found, (first, last) => {
      this.set({ from: `${first}`, to: `${last}` });
      this.follow();
    });
    at("strip").replaceChildren(strip);
    this.show();
  }

  /** The rows of the list that can be seen, and no others. */
  rows() {
    const list = at("list");
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(this.found.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    const rows = [];
    for (let place = first; place < last; place++) {
      const facts = this.index.facts(this.found[place]);
      const row = element("div", this.found[place] === this.number ? "row chosen" : "row");
      row.style.transform = `translateY(${place * ROW}px)`;
      row.role = "option";
      row.ariaSelected = `${this.found[place] === this.number}`;
      const below = `step ${facts.step} · ${facts.group}.${facts.member} · ${facts.length} turns · ${facts.stop}`;
      row.append(
        element("div", "line", successMark(facts.success), element("span", "task", facts.task), element("span", "value", figure(facts.reward))),
        element("div", "line faint", below),
      );
      row.addEventListener("click", () => this.choose(this.found[place]));
      rows.push(row);
    }
    at("rows").replaceChildren(...rows);
  }

  choose(number, show = this.state.show) {
    this.set({ play: this.index.name(number), show, other: "" });
    this.show();
    this.reveal();
  }

  /** Scroll the list to the chosen play. */
  reveal() {
    const place = this.found.indexOf(this.number);
    const list = at("list");
    if (place < 0) return;
    const [low, high] = [list.scrollTop, list.scrollTop + list.clientHeight - ROW];
    const far = place * ROW < low - ROW || place * ROW > high + ROW;
    if (far) list.scrollTop = (place + 0.5) * ROW - list.clientHeight / 2;
    else list.scrollTop = Math.min(place * ROW, Math.max(low, (place + 1) * ROW - list.clientHeight));
  }

  /** By so many places along the list, or along the group. */
  move(by, among = this.found) {
    const place = among.indexOf(this.number) + by;
    if (among[place] !== undefined) this.choose(among[place]);
  }

  /** Draw what the state asks for. */
  async show() {
    const drawing = ++this.drawn;
    this.rows();
    at("tip").hidden = true;
    if (this.number === undefined) {
      at("top").replaceChildren();
      at("view").replaceChildren();
      return;
    }
    const numbers = this.numbers();
    const [texts, ...plays] = await Promise.all([pieces(), ...numbers.map((number) => playOf(this.index, number))]);
    if (drawing !== this.drawn) return;
    const view = { number: this.number, texts, colour: this.state.colour, prompts: this.state.prompts === "yes" };
    const chosen = plays.find((play) => play.number === this.number);
    this.texts = texts;
    at("top").replaceChildren(...this.top(chosen, numbers[1]));
    const whole = this.state.show === "play";
    at("view").replaceChildren(whole ? playNode(chosen, view) : columnsNode(plays, view, (number) => this.choose(number, "play")));
    const scene = `${this.state.show} ${numbers}`;
    if (scene !== this.scene) this.rewind();
    this.scene = scene;
    highlight(at("view"), this.state.text.toLowerCase());
    document.body.dataset.drawn = drawing;
    performance.mark("drawn");
    setTimeout(() => this.search.ready, 100); // what stands on the screen comes first
  }

  /** To the first turn, and to the column of the chosen play. */
  rewind() {
    const view = at("view");
    const column = view.querySelector(".top.chosen");
    const hidden = column && column.offsetLeft + column.offsetWidth > view.clientWidth;
    view.scrollTo(hidden ? column.offsetLeft - 16 : 0, 0);
  }

  /** The plays on the screen. */
  numbers() {
    if (this.state.show === "siblings") return this.index.siblings(this.number);
    if (this.state.show === "steps") return [this.number, this.index.numbers.get(this.state.other) ?? this.index.likeness(this.number)];
    return [this.number];
  }

  /** What stands above the play: its name and numbers, its siblings, what is shown and how. */
  top(play, other) {
    const marks = this.index.siblings(play.number).map((i) => {
      const chip = button(i === play.number ? "chip chosen" : "chip", "", () => this.choose(i));
      chip.append(successMark(this.index.success[i] === 1), ` ${figure(this.index.reward[i], 2)}`);
      chip.title = this.index.name(i);
      return chip;
    });
    const shows = SHOWN.map(([show, label]) => button(this.state.show === show ? "chosen" : "", label, () => this.change({ show })));
    const colours = KNOWN.map((name) => button(this.state.colour === name ? "chosen" : "", name, () => this.change({ colour: name })));
    const prompts = button(this.state.prompts ? "chosen" : "", "prompts", () => this.change({ prompts: this.state.prompts ? "" : "yes" }));
    const colour = COLOURS[this.state.colour];
    const legend = colour.swatches.map(([name, label]) => element("span", `t s ${name}`, label));
    const family = play.family && play.family !== play.task ? element("span", "faint", `family ${play.family}`) : "";
    const parts = [
      element("div", "title", successMark(play.success), element("h2", "", play.task), family, element("code", "faint", play.name)),
      element("div", "facts", element("span", "", playFacts(play).join(" · ")), rewardTable(play)),
      element("div", "facts", element("span", "faint", "group"), ...marks),
      element("div", "facts", element("div", "switch", ...shows), element("div", "switch", ...colours), element("div", "switch", prompts)),
      element("div", "facts legend", ...legend, element("span", "faint", colour.about)),
    ];
    if (this.state.show === "steps") parts.push(this.pickers(play.number, other));
    return parts;
  }

  /** Which play of which step stands on the right. */
  pickers(number, other) {
    const choice = (values, chosen, label) => {
      const node = element("select", "");
      node.append(...values.map((value) => Object.assign(element("option", "", label(value)), { value })));
      node.value = chosen;
      return node;
    };
    const steps = choice(this.index.allSteps, this.index.step[other], (step) => `step ${step}`);
    const plays = choice(this.index.alike(number, this.index.step[other]), other, (i) => {
      const facts = this.index.facts(i);
      const same = facts.task === this.index.facts(number).task ? "same task" : facts.family === this.index.facts(number).family ? "same family" : facts.task;
      return `${facts.group}.${facts.member}  ${facts.success ? "✓" : "✗"} ${figure(facts.reward)}  ${same}`;
    });
    const to = (i) => i !== undefined && this.change({ other: this.index.name(i) });
    steps.addEventListener("change", () => to(this.index.alike(number, Number(steps.value))[0]));
    plays.addEventListener("change", () => to(Number(plays.value)));
    return element("div", "facts", element("span", "faint", "beside"), steps, plays);
  }

  change(changes) {
    this.set({ play: this.index.name(this.number), ...changes });
    this.show();
  }

  /** The numbers of the token under the pointer. */
  tip(event) {
    const tip = at("tip");
    const known = spans.get(event.target);
    tip.hidden = !known;
    if (!known) return;
    tip.textContent = tokenFacts(...known, this.texts);
    const box = event.target.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${box.top > 40 ? box.top - tip.offsetHeight - 4 : box.bottom + 4}px`;
  }

  keys() {
    const next = () => KNOWN[(KNOWN.indexOf(this.state.colour) + 1) % KNOWN.length];
    const actions = {
      j: () => this.move(1),
      ArrowDown: () => this.move(1),
      k: () => this.move(-1),
      ArrowUp: () => this.move(-1),
      "]": () => this.move(1, this.index.siblings(this.number)),
      "[": () => this.move(-1, this.index.siblings(this.number)),
      e: () => this.change({ show: "play" }),
      s: () => this.change({ show: "siblings" }),
      t: () => this.change({ show: "steps" }),
      c: () => this.change({ colour: next() }),
      p: () => this.change({ prompts: this.state.prompts ? "" : "yes" }),
      x: () => this.clear(),
      d: () => this.theme(),
      "/": () => at("f-text").focus(),
      "?": () => at("keys").showModal(),
    };
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") document.activeElement.blur();
      const typing = event.target.closest?.("input, select, dialog");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || !actions[event.key]) return;
      if (this.number === undefined && !"x/?d".includes(event.key)) return;
      event.preventDefault();
      actions[event.key]();
    });
  }
}

unpack("index").then((columns) => {
  globalThis.page = new Page(new Index(columns));
});
