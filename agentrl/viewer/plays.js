// Plays as elements: one turn by turn, or several side by side with their turns on one line.

/** A play's own numbers in words. */
function playFacts(play) {
  const facts = [
    `step ${play.step}`,
    `group ${play.group}`,
    `member ${play.member}`,
    `${play.length} turn${play.length === 1 ? "" : "s"}`,
    `${play.tokens} tokens`,
    play.stop,
  ];
  if (play.copy) facts.push(`copy ${play.copy}`);
  if (play.weight !== null && play.weight !== 1) facts.push(`weight ${figure(play.weight)}`);
  return facts;
}

function successMark(success) {
  const mark = element("span", success ? "mark won" : "mark lost", success ? "✓" : "✗");
  mark.title = success ? "success" : "no success";
  return mark;
}

/** Reward, its parts and what the environment paid. */
function rewardTable(play) {
  const rows = [["reward", play.reward], ...Object.entries(play.parts)];
  if (!("return" in play.parts)) rows.push(["env return", play.env]);
  const list = element("dl", "rewards");
  for (const [name, value] of rows) list.append(element("div", "", element("dt", "", name), element("dd", "", figure(value))));
  return list;
}

function messageNodes(messages) {
  return messages.map(({ role, text }) => element("div", `message ${role}`, element("span", "what", role), textNode(text, "")));
}

/** One turn: what the policy did, what the environment answered. */
function turnNode(turn, number, view) {
  const line = element("header", "", element("b", "", `turn ${number}`));
  if (turn.reward) line.append(element("span", turn.reward > 0 ? "plus" : "minus", `reward ${turn.reward > 0 ? "+" : ""}${figure(turn.reward)}`));
  if (!turn.parsed) line.append(element("span", "minus", "off grammar"));
  if (turn.finish === "length") line.append(element("span", "minus", "cut at the limit"));
  line.append(element("span", "faint", `${turn.ids.length} tokens, version ${turn.version}`));
  if (turn.info) line.append(textNode(turn.info, "faint info"));
  const node = element("article", "turn", line);
  if (view.prompts) node.append(promptTokens(turn, view.texts));
  node.append(sampledTokens(turn, view.texts, view.colour), ...messageNodes(turn.said));
  return node;
}

/** One play from its start to its end. */
function playNode(play, view) {
  const node = element("div", "one");
  node.append(element("article", "turn start", element("header", "", element("b", "", "start")), ...messageNodes(play.first)));
  play.turns.forEach((turn, i) => node.append(turnNode(turn, i + 1, view)));
  if (play.error) node.append(element("article", "turn failed", element("header", "", element("b", "", "the environment failed")), textNode(play.error, "")));
  return node;
}

/** Several plays, a column each, turns of equal number on one line; actions equal to those of the first are faint. */
function columnsNode(plays, view, choose) {
  const node = element("div", "columns");
  node.style.setProperty("--columns", plays.length);
  for (const play of plays) {
    const title = button("name", `${play.name}`, () => choose(play.number));
    const top = element("div", play.number === view.number ? "cell top chosen" : "cell top", title, successMark(play.success));
    top.append(rewardTable(play), element("div", "faint", playFacts(play).slice(3).join(" · ")));
    if (plays.some((other) => other.task !== play.task)) top.append(element("div", "faint", play.task));
    node.append(top);
  }
  const shared = plays.every((play) => JSON.stringify(play.first) === JSON.stringify(plays[0].first));
  for (const play of shared ? plays.slice(0, 1) : plays)
    node.append(element("div", shared ? "cell wide" : "cell", ...messageNodes(play.first)));
  const base = plays.find((play) => play.number === view.number) ?? plays[0];
  const longest = Math.max(...plays.map((play) => play.turns.length));
  for (let i = 0; i < longest; i++)
    for (const play of plays) {
      const turn = play.turns[i];
      const same = turn && play !== base && play.task === base.task && base.turns[i]?.action === turn.action;
      node.append(element("div", same ? "cell same" : "cell", ...(turn ? [turnNode(turn, i + 1, view)] : [])));
    }
  return node;
}

const BARS = 120; // most bars of the strip

/** Success by step of these plays, as bars; a click on one calls `choose` with its first and last step. */
function stripNode(index, plays, choose) {
  const steps = index.allSteps;
  const size = Math.ceil(steps.length / BARS);
  const count = Math.ceil(steps.length / size);
  const place = new Map(steps.map((step, i) => [step, Math.floor(i / size)]));
  const [counts, wins] = [new Array(count).fill(0), new Array(count).fill(0)];
  for (const i of plays) {
    counts[place.get(index.step[i])]++;
    wins[place.get(index.step[i])] += index.success[i];
  }
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${count} 30`);
  svg.setAttribute("preserveAspectRatio", "none");
  for (let i = 0; i < count; i++) {
    const [first, last] = [steps[i * size], steps[Math.min((i + 1) * size, steps.length) - 1]];
    const share = counts[i] ? wins[i] / counts[i] : 0;
    for (const [name, height] of [["bar", counts[i] ? 30 : 1], ["bar won", 30 * share]]) {
      const bar = document.createElementNS(svg.namespaceURI, "rect");
      const box = { x: i + 0.08, y: 30 - height, width: 0.84, height, class: name };
      for (const [key, value] of Object.entries(box)) bar.setAttribute(key, value);
      const title = document.createElementNS(svg.namespaceURI, "title");
      title.textContent = `step ${first}${last === first ? "" : `–${last}`}: ${wins[i]} of ${counts[i]} plays succeed`;
      bar.append(title);
      bar.addEventListener("click", () => choose(first, last));
      svg.append(bar);
    }
  }
  return svg;
}
