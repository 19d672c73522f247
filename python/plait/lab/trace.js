// Draws a trace into an element: canvas, so that a hundred thousand spans stay usable.
function draw(root, data) {
  const ROW = 24, BAR = 17, AXIS = 22;
  const [laneOf, startOf, lengthOf, stateOf, nameOf, holderOf] = data.columns;
  const whole = Math.max(data.seconds * 1e6, 1);
  let from = 0, to = whole, sought = "", hidden = new Set(), arrows = true, frame = 0;
  const indices = data.lanes.map(() => []);
  const longest = data.lanes.map(() => 0);
  for (let i = 0; i < laneOf.length; i++) {
    indices[laneOf[i]].push(i);
    longest[laneOf[i]] = Math.max(longest[laneOf[i]], lengthOf[i]);
  }
  const element = (tag, parent, attributes = {}, text = "") => {
    const made = document.createElement(tag);
    Object.assign(made, attributes);
    made.append(text);
    parent.append(made);
    return made;
  };
  root.replaceChildren();
  const bar = element("div", root, {className: "bar"});
  const view = element("div", root, {className: "view"});
  const canvas = element("canvas", view, {tabIndex: 0});
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Timeline of ${data.lanes.length} lanes`);
  const tip = element("div", root, {className: "tip"});
  element("div", root, {className: "notes"}, data.notes.join("; ") +
    ". Drag to pan, Ctrl + wheel or + and − to zoom, double-click a span to fit it.");

  // A notebook's theme need not be the system's: what lies behind decides.
  function isDark() {
    for (let at = root; at; at = at.parentElement) {
      const found = getComputedStyle(at).backgroundColor.match(/[\d.]+/g);
      if (found && (found.length < 4 || +found[3] > 0.5)) {
        return 0.3 * found[0] + 0.59 * found[1] + 0.11 * found[2] < 128;
      }
    }
    return matchMedia("(prefers-color-scheme: dark)").matches;
  }

  const used = new Set(stateOf);
  const swatches = [];
  data.states.forEach(([, meaning], state) => {
    if (!used.has(state)) return;
    const item = element("span", bar, {className: "state"});
    swatches.push([element("i", item), state]);
    item.append(meaning);
    item.onclick = () => {
      if (!hidden.delete(state)) hidden.add(state);
      item.classList.toggle("off", hidden.has(state));
      later();
    };
  });
  const act = (label, title, action) => {
    element("button", bar, {title, onclick: () => { action(); later(); }}, label);
  };
  act("−", "zoom out", () => zoom(1.6));
  act("+", "zoom in", () => zoom(1 / 1.6));
  act("all", "the whole trace", () => { from = 0; to = whole; });
  if (data.arrows.length) act("arrows", "starts and submissions", () => { arrows = !arrows; });
  const search = element("input", bar, {placeholder: "find a name", type: "search"});
  search.oninput = () => { sought = search.value.toLowerCase(); later(); };

  const context = canvas.getContext("2d");
  const label = ([kind, name]) => `${kind} ${name}`;
  let left = 100, width = 800, dark = false;
  const x = (time) => left + (time - from) / (to - from) * (width - left - 8);
  const timeAt = (px) => from + (px - left) / (width - left - 8) * (to - from);
  const said = (us) => us >= 1e6 ? `${+(us / 1e6).toFixed(4)} s`
    : us >= 1e3 ? `${+(us / 1e3).toFixed(3)} ms` : `${Math.round(us)} µs`;

  function clamp() {
    const length = Math.min(Math.max(to - from, 5), whole);
    from = Math.min(Math.max(from, 0), whole - length);
    to = from + length;
  }
  function zoom(factor, about = (from + to) / 2) {
    from = about - (about - from) * factor;
    to = about + (to - about) * factor;
    clamp();
  }
  function later() {
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; paint(); });
  }
  // The first span of a lane that may reach into the view.
  function first(lane) {
    const list = indices[lane], early = from - longest[lane];
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (startOf[list[middle]] < early) low = middle + 1; else high = middle;
    }
    return low;
  }
  function paint() {
    dark = isDark();
    const ink = dark ? "#e6e9ee" : "#1f2328", rule = dark ? "#3a414b" : "#dfe4ea";
    swatches.forEach(([box, state]) => { box.style.background = data.states[state][dark ? 3 : 2]; });
    tip.style.background = dark ? "#2b3038" : "#ffffff";
    tip.style.color = ink;
    width = Math.max(view.clientWidth, 300);
    const height = AXIS + data.lanes.length * ROW + 4, ratio = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = "12px system-ui,sans-serif";
    left = Math.min(Math.max(...data.lanes.map((l) => context.measureText(label(l)).width), 40) + 14,
      width * 0.35);
    // The axis: about one tick in 110 pixels, at round times.
    const aim = (to - from) / Math.max((width - left) / 110, 1);
    const power = 10 ** Math.floor(Math.log10(aim));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= aim);
    context.textBaseline = "middle";
    for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
      context.fillStyle = rule;
      context.fillRect(Math.round(x(tick)), AXIS - 4, 1, height);
      context.fillStyle = ink;
      context.globalAlpha = 0.7;
      context.textAlign = x(tick) > width - 40 ? "right" : "center";
      context.fillText(tick === 0 ? "0" : said(tick), x(tick), AXIS / 2 - 1);
      context.globalAlpha = 1;
    }
    data.lanes.forEach((lane, row) => paintLane(lane, row, ink));
    if (arrows) paintArrows(ink);
  }
  function fitted(name, room) {
    if (room < 30) return "";
    if (context.measureText(name).width <= room) return name;
    const letters = Math.floor(name.length * room / context.measureText(name).width) - 1;
    return letters < 3 ? "" : name.slice(0, letters) + "…";
  }
  function paintLane(lane, row, ink) {
    const top = AXIS + row * ROW + (ROW - BAR) / 2, list = indices[row], colour = dark ? 3 : 2;
    context.save();
    context.beginPath();
    context.rect(0, top - 4, left - 8, ROW);
    context.clip();
    context.textAlign = "left";
    context.globalAlpha = 0.6;
    context.fillStyle = ink;
    context.fillText(lane[0] + " ", 4, top + BAR / 2);
    context.globalAlpha = 1;
    context.fillText(lane[1], 4 + context.measureText(lane[0] + " ").width, top + BAR / 2);
    context.restore();
    context.save();
    context.beginPath();
    context.rect(left, top - 4, width - left, ROW);
    context.clip();
    context.textAlign = "left";
    // Of spans in one pixel, the state that fills most of it is drawn.
    let pixel = -1, share = null;
    const flush = () => {
      if (!share) return;
      let best = 0;
      share.forEach((part, state) => { if (part > share[best]) best = state; });
      context.fillStyle = data.states[best][colour];
      context.fillRect(pixel, top, 1, BAR);
      share = null;
    };
    for (let at = first(row); at < list.length; at++) {
      const i = list[at];
      if (startOf[i] > to) break;
      if (startOf[i] + lengthOf[i] < from || hidden.has(stateOf[i])) continue;
      const name = data.texts[nameOf[i]];
      const misses = sought && !name.toLowerCase().includes(sought);
      const begin = x(startOf[i]), end = x(startOf[i] + lengthOf[i]);
      if (end - begin < 1 && !sought) {
        if (Math.floor(begin) !== pixel) { flush(); pixel = Math.floor(begin); }
        share ??= data.states.map(() => 0);
        share[stateOf[i]] += lengthOf[i];
        continue;
      }
      context.globalAlpha = misses ? 0.15 : 1;
      context.fillStyle = data.states[stateOf[i]][colour];
      const visible = Math.max(begin, left);
      context.fillRect(begin, top, Math.max(end - begin - (end - begin > 3 ? 0.6 : 0), 0.8), BAR);
      const room = Math.min(end, width) - visible - 8;
      const shown = fitted(name, room);
      if (shown) {
        context.fillStyle = stateOf[i] === 6 && !dark ? "#1f2328" : dark ? "#101318" : "#ffffff";
        if (stateOf[i] === 6 && dark) context.fillStyle = "#e6e9ee";
        context.fillText(shown, visible + 4, top + BAR / 2);
      }
      context.globalAlpha = 1;
    }
    flush();
    context.restore();
  }
  function paintArrows(ink) {
    context.save();
    context.beginPath();
    context.rect(left, AXIS - 4, width - left, 1e6);
    context.clip();
    context.strokeStyle = context.fillStyle = ink;
    context.globalAlpha = 0.55;
    let drawn = 0;
    for (const [lane, at, toLane, then, , until] of data.arrows) {
      if (Math.max(then, until) < from || at > to || drawn > 1500) continue;
      drawn += 1;
      const y = (row) => AXIS + row * ROW + ROW / 2;
      const [x0, y0, x1, y1] = [x(at), y(lane), x(then), y(toLane)];
      context.beginPath();
      context.moveTo(x0, y0);
      context.bezierCurveTo(x0 + 10, y0, x1 - 14, y1, x1 - 4, y1);
      context.stroke();
      context.beginPath();
      context.moveTo(x1, y1);
      context.lineTo(x1 - 6, y1 - 3.5);
      context.lineTo(x1 - 6, y1 + 3.5);
      context.fill();
      if (until >= then) context.fillRect(x1, y1 + BAR / 2 + 1, Math.max(x(until) - x1 - 1, 1), 2);
    }
    context.restore();
  }

  function hit(event) {
    const box = canvas.getBoundingClientRect();
    const px = event.clientX - box.left, row = Math.floor((event.clientY - box.top - AXIS) / ROW);
    if (px < left || row < 0 || row >= data.lanes.length) return null;
    const time = timeAt(px), slack = (to - from) / width * 1.5, list = indices[row];
    let best = null;
    for (let at = first(row); at < list.length; at++) {
      const i = list[at];
      if (startOf[i] > time + slack) break;
      if (startOf[i] + lengthOf[i] >= time - slack && !hidden.has(stateOf[i])) {
        if (best === null || lengthOf[i] < lengthOf[best] || startOf[best] + lengthOf[best] < time) {
          best = i;
        }
      }
    }
    return best;
  }
  let grabbed = null;
  canvas.onpointerdown = (event) => {
    grabbed = [event.clientX, from, to];
    canvas.setPointerCapture(event.pointerId);
    canvas.style.cursor = "grabbing";
  };
  canvas.onpointerup = canvas.onpointercancel = () => { grabbed = null; canvas.style.cursor = ""; };
  canvas.onpointermove = (event) => {
    if (grabbed) {
      const moved = (event.clientX - grabbed[0]) / (width - left - 8) * (grabbed[2] - grabbed[1]);
      from = grabbed[1] - moved;
      to = grabbed[2] - moved;
      clamp();
      later();
    }
    const i = grabbed ? null : hit(event);
    tip.style.display = i === null ? "none" : "block";
    if (i === null) return;
    const [kind, name, pid, tid] = data.lanes[laneOf[i]];
    const holder = holderOf[i] < 0 ? "" : `, held by or for ${data.texts[holderOf[i]]}`;
    tip.textContent = `${data.texts[nameOf[i]]}: ${data.states[stateOf[i]][1]}${holder}. ` +
      `${said(lengthOf[i])}, from ${said(startOf[i])}. ${kind} ${name}, pid ${pid}, tid ${tid}`;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 300)}px`;
    tip.style.top = `${event.clientY + 16}px`;
  };
  canvas.onpointerleave = () => { tip.style.display = "none"; };
  canvas.ondblclick = (event) => {
    const i = hit(event);
    if (i === null) return;
    const margin = lengthOf[i] * 0.1;
    from = startOf[i] - margin;
    to = startOf[i] + lengthOf[i] + margin;
    clamp();
    later();
  };
  canvas.addEventListener("wheel", (event) => {
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (!event.ctrlKey && !event.metaKey && !sideways) return; // the page scrolls
    event.preventDefault();
    if (sideways && !event.ctrlKey) {
      const by = (event.deltaX || event.deltaY) / width * (to - from);
      from += by;
      to += by;
      clamp();
    } else {
      const box = canvas.getBoundingClientRect();
      zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.01), timeAt(event.clientX - box.left));
    }
    later();
  }, {passive: false});
  canvas.onkeydown = (event) => {
    const by = (to - from) * 0.2;
    const acts = {
      "+": () => zoom(1 / 1.6), "=": () => zoom(1 / 1.6), "w": () => zoom(1 / 1.6),
      "-": () => zoom(1.6), "s": () => zoom(1.6), "0": () => { from = 0; to = whole; },
      "ArrowLeft": () => { from -= by; to -= by; }, "a": () => { from -= by; to -= by; },
      "ArrowRight": () => { from += by; to += by; }, "d": () => { from += by; to += by; },
    };
    if (!acts[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
    clamp();
    later();
  };
  new ResizeObserver(later).observe(view);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);
  paint();
}
