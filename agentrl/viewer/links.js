// What is on the screen, as the fragment of the address: a link to it, for a note or a colleague.

const USUAL = {
  play: "", // step.group.member
  show: "play", // play | siblings | steps
  other: "", // the second play of `steps`
  colour: "advantage",
  prompts: "", // "yes": the tokens of prompts, too
  text: "",
  task: "",
  from: "", // steps
  to: "",
  low: "", // reward
  high: "",
  stop: "",
  success: "", // yes | no
  sort: "in order",
};
const FILTERS = ["text", "task", "from", "to", "low", "high", "stop", "success", "sort"];

/** What a fragment says; what it leaves out is as usual. */
function readLink(fragment) {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  return Object.fromEntries(Object.entries(USUAL).map(([key, usual]) => [key, given.get(key) ?? usual]));
}

/** The fragment of a state: only what is not as usual. */
function linkOf(state) {
  const given = Object.entries(USUAL).filter(([key, usual]) => state[key] !== usual);
  return `#${new URLSearchParams(given.map(([key]) => [key, state[key]]))}`;
}
