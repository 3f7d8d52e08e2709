
"use strict";
// The page decides nothing: it looks the answer up in what the resolver said (envbuilder/format/page/grid.py) and shows it.

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("choices");
const axisOf = Object.fromEntries(data.axes.map((axis) => [axis.name, axis]));

// --- looking up -----------------------------------------------------------------------------------------------------

function picked() {
  return Object.fromEntries([...new FormData(form)].filter(([name, value]) => axisOf[name] && value));
}

function stackFor(choices) {
  let at = data.root;
  for (const axis of data.axes) {
    at = data.nodes[at][axis.values.indexOf(choices[axis.name] ?? "")];
    if (at < 0) return null;
  }
  return data.stacks[at];
}

function clashesIn(choices) {
  return data.clashes.filter((clash) => Object.entries(clash.picked).every(([name, value]) => choices[name] === value));
}

function changed(choices, name, value) {
  const { [name]: dropped, ...rest } = choices;
  return value ? { ...rest, [name]: value } : rest;
}

function command(verb, choices) {
  const words = data.order.filter((name) => choices[name])
    .map((name) => axisOf[name].words[axisOf[name].values.indexOf(choices[name])]);
  return ["envbuilder", verb, ...words].join(" ");
}

// --- in words -------------------------------------------------------------------------------------------------------

function labelOf(axis, value) {
  return axis.labels[axis.values.indexOf(value)];
}

function choiceText(axis, value) {
  return `${axis.title} ${labelOf(axis, value)}`;
}

function clashText(clash) {
  const parts = data.axes.filter((axis) => clash.picked[axis.name]).map((axis) => choiceText(axis, clash.picked[axis.name]));
  if (parts.length === 1) return `No stack has ${parts[0]}`;
  return `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)} do not go together`;
}

function reasonText(clash) {
  return clash.reasons.map((number) => data.texts[number]).join("; ");
}

// --- elements -------------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function button(text, act, attributes = {}) {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", act);
  return element;
}

function facts(pairs) {
  return make("dl", { class: "facts" }, ...pairs.flatMap(([label, text]) => [make("dt", {}, label), make("dd", {}, text)]));
}

function copyable(text, ...buttons) {
  const words = text.split(/ (?=--)/).flatMap((word, place) => [place ? " " : "", make("span", {}, word)]);
  const code = make("code", {}, ...words);
  return make("div", { class: "command" }, make("pre", {}, code), ...buttons,
    button("Copy", () => copy(text, code), { "aria-label": `Copy: ${text}` }));
}

async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${text}`);
  } catch {
    getSelection().selectAllChildren(element);
    say("The clipboard is closed to this page; the command is selected, copy it by hand.");
  }
}

function say(text) {
  document.getElementById("said").textContent = text;
}

// --- the answer -----------------------------------------------------------------------------------------------------

function showStack(stack, choices) {
  const parts = [
    make("div", { class: "card fits" }, make("p", {}, make("strong", {}, stack.name)),
      make("p", {}, "Build it, fine-tune BERT in it, and only then give it its tag:"), copyable(command("build", choices))),
    make("h3", {}, "Receipt"), ...showProof(stack),
    make("h3", {}, "Stack"), facts(pairsOf(stack, choices)),
  ];
  if (stack.notes.length) {
    parts.push(make("ul", { class: "notes", "aria-label": "Notes" }, ...stack.notes.map((number) => make("li", {}, data.texts[number]))));
  }
  return [...parts, make("h3", {}, "Dockerfile"), ...showDockerfile(stack, choices), ...showCompanions(stack, choices)];
}

// What the chosen GPU cannot do stands in place of what the versions could.
function pairsOf(stack, choices) {
  const pairs = stack.pairs.map(([label, number]) => [label, data.texts[number]]);
  const torch = pairs.find(([label]) => label === "torch")[1];
  const [major, minor] = torch.split(".").map(Number);
  for (const [name, text, works, [firstMajor, firstMinor]] of data.features[choices.gpu] ?? []) {
    const pair = pairs.find(([label]) => label === name);
    const old = major < firstMajor || (major === firstMajor && minor < firstMinor);
    const shown = works && old ? `not available: torch ${torch} does not have it for this GPU: ${firstMajor}.${firstMinor} is the first` : text;
    if (!pair) pairs.splice(-1, 0, [name, shown]);
    else if (pair[1] === "works") pair[1] = shown;
  }
  return pairs;
}

// A companion that fits leaves the stack as it is, so its option is added to the command.
function showCompanions(stack, choices) {
  const companions = data.companions[stack.companions];
  const fitting = companions.filter(([, , fits]) => fits);
  const others = companions.filter(([, , fits]) => !fits);
  if (!companions.length) return [];
  const parts = [
    make("h3", {}, "Packages bound to torch or CUDA"),
    make("p", { class: "quiet" }, `Of this stack’s torch, CUDA and Python: ${fitting.length} fit, ${others.length} do not. `,
      make("code", {}, "--package"), " adds any other."),
  ];
  if (fitting.length) {
    const list = make("ul", { class: "companions" }, ...fitting.map(([name, number]) => make("li", {},
      `${data.texts[number]} `, copyable(`${command("build", choices)} --with ${name}`))));
    parts.push(make("details", {}, make("summary", {}, `${fitting.length} that fit`), list));
  }
  if (others.length) {
    const list = make("ul", { class: "companions" }, ...others.map(([name, number]) => make("li", {},
      make("code", {}, name), ` ${data.texts[number]}`)));
    parts.push(make("details", {}, make("summary", {}, `${others.length} that do not, and why`), list));
  }
  return parts;
}

function showProof(stack) {
  const { state, title, pairs } = stack.proof;
  const parts = [make("p", { class: `state ${state}` }, title)];
  if (pairs.length) parts.push(facts(pairs));
  if (stack.neighbours.length) {
    parts.push(make("p", {}, "The same torch and CUDA, proven:"));
    for (const other of stack.neighbours) {
      parts.push(make("p", { class: "ways" }, button(other.name, () => choose(other.picked)), ` ${other.title}`));
    }
  }
  return parts;
}

function showDockerfile(stack, choices) {
  const text = stack.dockerfile.map((number) => data.texts[number]).join("\n").replaceAll("{name}", stack.name);
  const about = stack.locked
    ? "As it is committed, with its lock."
    : "As far as the stack decides it: wheels are counted, and digests filled in, by";
  return [
    make("p", { class: "quiet" }, about, ...(stack.locked ? [] : [" ", make("code", {}, command("render", choices)), "."]),
      " It does not build alone: envbuilder render writes the folder with the lock, the payload and the installer."),
    make("details", {}, make("summary", {}, "Show the Dockerfile"),
      make("pre", { class: "file", tabindex: "0", role: "region", "aria-label": "Dockerfile" }, text)),
  ];
}

function showClashes(clashes, choices) {
  return [...clashes.map(showClash), ...showWays(clashes, choices)];
}

function showClash(clash) {
  const parts = [
    make("h3", {}, clashText(clash)),
    make("ul", { class: "reasons" }, ...clash.reasons.map((number) => make("li", {}, data.texts[number]))),
  ];
  if (clash.suggestions.length) parts.push(make("p", {}, "What works instead:"));
  for (const suggestion of clash.suggestions) {
    const name = { "aria-label": `Choose this: ${suggestion.command}` };
    const buttons = suggestion.picked ? [button("Choose this", () => choose(suggestion.picked), name)] : [];
    parts.push(copyable(suggestion.command, ...buttons));
  }
  return make("div", { class: "card clash" }, ...parts);
}

function showWays(clashes, choices) {
  const ways = data.axes.filter((axis) => clashes.some((clash) => clash.picked[axis.name]))
    .map((axis) => [axis, axis.values.filter((value) => stackFor(changed(choices, axis.name, value)))])
    .filter(([, values]) => values.length);
  if (!ways.length) return [make("p", {}, "No single change resolves all of this.")];
  return [make("h3", {}, "Change one choice and keep the others"), ...ways.map(([axis, values]) =>
    make("div", { class: "ways", role: "group", "aria-label": axis.title }, make("span", {}, axis.title),
      ...values.map((value) => button(labelOf(axis, value), () => choose(changed(choices, axis.name, value)),
        { "aria-label": choiceText(axis, value) }))))];
}

// --- what is greyed -------------------------------------------------------------------------------------------------

// Greyed is a choice that clashes with the others; one that changes nothing about a clash elsewhere is not.
function mark(axis, choices) {
  const why = form.querySelector(`#${axis.name} .why`);
  const list = make("ul");
  for (const input of form.elements[axis.name]) {
    const own = clashesIn(changed(choices, axis.name, input.value)).filter((clash) => clash.picked[axis.name]);
    if (!own.length) {
      input.removeAttribute("aria-disabled");
      input.removeAttribute("aria-describedby");
      continue;
    }
    const id = `why-${axis.name}-${input.value}`;
    const text = own.map((clash) => `${clashText(clash)}: ${reasonText(clash)}.`).join(" ");
    list.append(make("li", { id }, make("strong", {}, labelOf(axis, input.value)), ` ${text}`));
    input.setAttribute("aria-disabled", "true");
    input.setAttribute("aria-describedby", id);
  }
  why.querySelector("ul").replaceWith(list);
  why.hidden = !list.children.length;
  why.querySelector("summary").textContent =
    list.children.length === 1 ? "Why one is struck through" : `Why ${list.children.length} are struck through`;
}

// --- choosing -------------------------------------------------------------------------------------------------------

function update() {
  const choices = picked();
  const stack = stackFor(choices);
  const clashes = stack ? [] : clashesIn(choices);
  const opened = document.querySelector("#shown details")?.open;
  document.getElementById("shown").replaceChildren(...(stack ? showStack(stack, choices) : showClashes(clashes, choices)));
  const file = document.querySelector("#shown details");
  if (opened && file) file.open = true;
  for (const axis of data.axes) mark(axis, choices);
  say(stack ? `It fits: ${stack.name}; ${stack.proof.title}.` : `${clashes.map(clashText).join(". ")}.`);
}

function pick(choices) {
  for (const axis of data.axes) {
    for (const input of form.elements[axis.name]) input.checked = input.value === (choices[axis.name] ?? "");
  }
}

function choose(choices) {
  pick(choices);
  remember();
  update();
  document.getElementById("answer-title").focus({ preventScroll: true });
}

// The address keeps the choices, so that a link to them can be shared.
function remember() {
  history.replaceState(null, "", `#${new URLSearchParams(picked())}`);
  document.getElementById("unknown").hidden = true;
}

function recall() {
  const asked = [...new URLSearchParams(location.hash.slice(1))];
  const known = asked.filter(([name, value]) => axisOf[name]?.values.includes(value));
  const strange = asked.filter((pair) => !known.includes(pair)).map((pair) => pair.join(" "));
  pick(Object.fromEntries(known));
  const note = document.getElementById("unknown");
  note.hidden = !strange.length;
  note.textContent = `The address asks for what this page does not know: ${strange.join(", ")}.`;
  update();
}

// A name from the list is chosen at once; what is not on it is reported once it has been typed.
function findGpu(event) {
  event.stopPropagation();
  const name = event.target.value.trim();
  const value = data.gpus[name.toLowerCase()];
  if (data.arm64.includes(name.toLowerCase())) {
    say(`${name} has an arm64 processor, and these stacks are for amd64: envbuilder resolve --gpu "${name}"`);
  } else if (value) {
    pick({ ...picked(), gpu: value });
    remember();
    update();
  } else if (name && event.type === "change") {
    say(`The catalog knows no GPU called ${name}: choose by its compute capability.`);
  }
}

for (const type of ["input", "change"]) document.getElementById("gpu-name").addEventListener(type, findGpu);
form.addEventListener("change", () => { remember(); update(); });
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("reset").addEventListener("click", () => choose({}));
document.getElementById("jump").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("answer-title").scrollIntoView();
  document.getElementById("answer-title").focus();
});
addEventListener("hashchange", recall);
recall();
