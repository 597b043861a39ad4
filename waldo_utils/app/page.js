"use strict";
const part = (id) => document.getElementById(id);
const photoPart = part("photo"), boxPart = part("box"), statusPart = part("status"), answerPart = part("answer");
const sides = [...document.querySelectorAll("#sides input")];
const SMALLEST = 5, REACH = 9, FINGER = 22;  // pixels of the screen: a box that is meant, and what is near its edge
const LEAST_WAIT = 400;  // milliseconds after a key before the box is searched

let photo = null;  // its word, width and height, and the file where it was uploaded
let box = null;    // [left, top, width, height] in pixels of the photo; null: all of it
let asked = null;  // what stops the search that goes on
let loads = 0;

const say = (text, fault = false) => {
  statusPart.textContent = text;
  statusPart.className = fault ? "fault" : "";
  statusPart.setAttribute("role", fault ? "alert" : "status");
};

// ---------------------------------------------------------------- the box on the photo

// What is drawn, what the numbers say and what is searched are this box.
const place = (next) => {
  box = next;
  const [left, top, width, height] = box ?? [0, 0, photo.width, photo.height];
  boxPart.hidden = box === null;
  Object.assign(boxPart.style, {
    left: `${100 * left / photo.width}%`, top: `${100 * top / photo.height}%`,
    width: `${100 * width / photo.width}%`, height: `${100 * height / photo.height}%`,
  });
  [left, top, width, height].forEach((value, i) => { sides[i].value = value; });
};
const corners = () => [box[0], box[1], box[0] + box[2], box[1] + box[3]];
const boxed = ([x1, y1, x2, y2]) => {
  const left = Math.floor(Math.min(x1, x2)), top = Math.floor(Math.min(y1, y2));
  return [left, top, Math.ceil(Math.max(x1, x2)) - left, Math.ceil(Math.max(y1, y2)) - top];
};
const within = (value, least, most) => Math.min(Math.max(value, least), most);
const scale = () => photoPart.clientWidth / photo.width;  // of the screen to the photo
const point = (event) => {
  const area = photoPart.getBoundingClientRect();
  return [
    within((event.clientX - area.left) / scale(), 0, photo.width),
    within((event.clientY - area.top) / scale(), 0, photo.height),
  ];
};
// Which corners' coordinates a pointer would move: of all, of an edge or a corner; null: it begins another box.
const grasped = ([x, y], reach) => {
  if (!box) return null;
  const [x1, y1, x2, y2] = corners();
  if (x < x1 - reach || x > x2 + reach || y < y1 - reach || y > y2 + reach) return null;
  const edge = (value, low, high, names) => {
    const [near, far] = [Math.abs(value - low), Math.abs(value - high)];
    return Math.min(near, far) > Math.min(reach, (high - low) / 4 + reach / 4) ? [] : [far <= near ? names[1] : names[0]];
  };
  const edges = [...edge(x, x1, x2, [0, 2]), ...edge(y, y1, y2, [1, 3])];
  return edges.length ? edges : [0, 1, 2, 3];
};

let drag = null;  // the pointer that began it, what it moves, and the box before
photoPart.addEventListener("pointerdown", (event) => {
  if (drag || !photo || event.button !== 0) return;  // a second pointer changes nothing
  event.preventDefault();
  photoPart.focus({ preventScroll: true });
  photoPart.setPointerCapture(event.pointerId);  // moves and the end arrive here, wherever they happen
  const start = point(event);
  const edges = grasped(start, (event.pointerType === "touch" ? FINGER : REACH) / scale());
  drag = { id: event.pointerId, start, edges: edges ?? [2, 3], from: edges ? corners() : [...start, ...start], before: box };
});
photoPart.addEventListener("pointermove", (event) => {
  if (!photo) return;
  if (!drag) {
    const edges = grasped(point(event), REACH / scale());
    const bothWays = edges?.length === 2 && (edges.includes(0) === edges.includes(1) ? "nwse-resize" : "nesw-resize");
    photoPart.style.cursor = edges === null ? "crosshair" : edges.length === 4 ? "move"
      : bothWays || (edges[0] % 2 ? "ns-resize" : "ew-resize");
    return;
  }
  if (event.pointerId !== drag.id) return;
  if (event.buttons === 0) return end(event);  // let go where no browser told
  const now = point(event), next = [...drag.from];
  let moved = [now[0] - drag.start[0], now[1] - drag.start[1]];
  if (drag.edges.length === 4) {
    moved = [within(moved[0], -next[0], photo.width - next[2]), within(moved[1], -next[1], photo.height - next[3])];
  }
  drag.edges.forEach((i) => { next[i] = within(next[i] + moved[i % 2], 0, i % 2 ? photo.height : photo.width); });
  if (drag.edges.length === 4) next.forEach((value, i) => { next[i] = Math.round(value); });
  drag.small = Math.min(Math.abs(next[2] - next[0]), Math.abs(next[3] - next[1])) * scale() < SMALLEST;
  place(boxed(next));
});
const end = (event) => {
  if (!drag || (event.pointerId !== undefined && event.pointerId !== drag.id)) return;
  const { before, small, edges, from } = drag;
  const begun = edges.length === 2 && from[0] === from[2] && from[1] === from[3];
  const moved = small !== undefined;
  drag = null;
  if (small || (begun && !moved)) {
    place(before);
    say(`That box is too small: drag a larger one. The matches are those of ${before ? "the box that is drawn" : "the whole photo"}.`, true);
  } else if (moved && String(box) !== String(before)) {
    search();
  }
};
["pointerup", "pointercancel", "lostpointercapture"].forEach((kind) => photoPart.addEventListener(kind, end));
window.addEventListener("blur", end);

let wait = null;
photoPart.addEventListener("keydown", (event) => {
  if (!photo || drag || event.ctrlKey || event.altKey || event.metaKey) return;
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const { width, height } = photo;
  if (event.key === "Enter" && !box) place(boxed([width / 4, height / 4, 3 * width / 4, 3 * height / 4]));
  else if (["Delete", "Backspace", "Escape"].includes(event.key) && box) place(null);
  else if (step && box) {
    const by = step.map((way, i) => Math.round(way * Math.max(photo[i ? "height" : "width"] / 100, 1)));
    const next = [...box];
    for (const i of [0, 1]) {
      const most = i ? height : width;
      if (event.shiftKey) next[i + 2] = within(next[i + 2] + by[i], 1, most - next[i]);
      else next[i] = within(next[i] + by[i], 0, most - next[i + 2]);
    }
    place(next);
  } else return;
  event.preventDefault();
  asked?.abort();  // its answer would set the box back
  clearTimeout(wait);
  wait = setTimeout(search, LEAST_WAIT);
});
sides.forEach((side) => side.addEventListener("change", () => search(sides.map((one) => Math.round(Number(one.value))))));
part("whole").addEventListener("click", () => { place(null); search(); });

// ---------------------------------------------------------------- photos

const open = async (found) => {
  photo = found;
  drag = null;
  photoPart.style.setProperty("--aspect", photo.width / photo.height);
  photoPart.hidden = part("sides").hidden = false;
  part("shown").src = `photo/${photo.photo}`;
  place(null);
  await search();
};
// The former photo and its answer go.
const close = () => {
  asked?.abort();
  photo = box = null;
  photoPart.hidden = part("sides").hidden = true;
  answerPart.replaceChildren();
  answerPart.removeAttribute("aria-busy");
};
const told = async (response) => {
  const found = await response.json();
  if (!response.ok) throw Object.assign(new Error(found.fault), { told: true });
  return found;
};
const load = async (request, file = null) => {
  const mine = ++loads;
  asked?.abort();
  try {
    const found = await told(await request());
    if (mine === loads) await open({ ...found, file });
  } catch (error) {
    if (mine !== loads) return;
    close();
    say(error.told ? error.message : "The photo did not arrive: choose it again.", true);
  }
};
const send = (file) => () => fetch(`photo?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
const upload = (file) => {
  if (part("example")) part("example").value = "";
  const most = Number(document.body.dataset.largest);
  if (file.size > most) {
    loads += 1;
    close();
    say(`${file.name} is larger than ${Math.floor(most / 2 ** 20)} MB: choose a smaller file.`, true);
    return;
  }
  say("Reading the photo.");
  load(send(file), file);
};
part("upload").addEventListener("click", () => part("file").click());
part("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) upload(file);
  event.target.value = "";  // else the same file again would be no change
});
part("example")?.addEventListener("change", (event) => {
  if (event.target.value) load(() => fetch(`example/${event.target.value}`));
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
});

// ---------------------------------------------------------------- the search

let searched = null;  // the box whose matches are shown
const search = async (wanted = box) => {
  clearTimeout(wait);
  asked?.abort();
  const mine = asked = new AbortController();
  const before = answerPart.childElementCount ? searched : null;
  answerPart.setAttribute("aria-busy", "true");
  try {
    const body = JSON.stringify({ photo: photo.photo, box: wanted });
    const response = await fetch("search", { method: "POST", body, signal: mine.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {  // a line each for the place in the queue, and the last for the answer
      const { value, done } = await reader.read();
      if (done) throw new Error("cut off");
      text += value;
      const lines = text.split("\n");
      text = lines.pop();
      for (const line of lines) {
        const news = JSON.parse(line);
        if (mine.signal.aborted) return;
        if (news.before) say(`${news.before} ${news.before === 1 ? "search is" : "searches are"} before yours.`);
        else if (news.unknown && photo.file) return load(send(photo.file), photo.file);
        else if (news.fault) {
          place(before);
          answerPart.setAttribute("aria-busy", "false");
          return say(news.fault, true);
        } else if (news.html !== undefined) {
          if (!drag) place(news.box);
          searched = news.box;
          const unfolded = part("before")?.open;
          answerPart.innerHTML = news.html;
          if (unfolded) part("before").open = true;
          answerPart.setAttribute("aria-busy", "false");
          return say(news.said);
        } else say("Searching.");
      }
    }
  } catch (error) {
    if (mine.signal.aborted) return;
    answerPart.replaceChildren();
    say("The search did not come to an end: try again.", true);
  }
};
answerPart.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-row]");
  if (!button || button.disabled) return;
  const { row, rank } = button.dataset, list = button.closest(".cards");
  const query = new URLSearchParams({ photo: photo.photo, row, box: searched ?? "" });
  button.disabled = true;
  try {
    const response = await fetch(`pair?${query}`);
    if (!response.ok) await told(response);
    const url = URL.createObjectURL(await response.blob());
    if (!button.isConnected) return;  // another answer came
    answerPart.querySelectorAll(".pair").forEach((other) => other.remove());
    const pair = document.createElement("li");
    pair.className = "pair";
    pair.style.order = 2 * rank + 1;
    pair.innerHTML = "<img><p>Bright patches attend to the other photo; the same number marks a pair of patches that attend to " +
      "each other most (first layer of the reranker, mean of its heads). The rim is cropped before the models see it.</p>";
    Object.assign(pair.querySelector("img"), {
      src: url, alt: `The query and match ${rank}, side by side; numbered lines join patches that attend to each other most`,
    });
    list.append(pair);
  } catch (error) {
    say(error.told ? error.message : "The comparison did not arrive: try again.", true);
  } finally {
    button.disabled = false;
  }
});

// ---------------------------------------------------------------- the server

let missed = 0;
setInterval(async () => {
  try {
    await fetch("alive", { cache: "no-store", signal: AbortSignal.timeout(2000) });
    missed = 0;
  } catch {
    missed += 1;
  }
  part("lost").hidden = missed < 2;
}, 1500);

if (part("example")) {
  part("example").selectedIndex = 1;
  part("example").dispatchEvent(new Event("change"));
}
