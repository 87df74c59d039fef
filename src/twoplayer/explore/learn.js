// Draws a view of a game in the plane; `learn.py` says what is in it. Numbers come as whole thousandths.
const TRAIL = 16, GLIDE_MS = 160, LONGEST_ARROW = 0.22;
const field = element.querySelector(".plane-field"), curves = element.querySelector(".plane-curves");
const legend = element.querySelector(".plane-legend"), lossWords = element.querySelector(".plane-losses");
const said = element.querySelector(".plane-said");
const patch = document.createElement("canvas");
let view = null, trail = [], glideFrom = null, glideBegan = 0, asked = 0;
const shown = { arrows: true, trails: false };

const LIGHT = {
  middle: [250, 250, 249], real: [96, 150, 222], fake: [240, 160, 92], edge: "#475569", ink: "#1e293b", soft: "#64748b",
  realPoint: "#1e40af", fakePoint: "#c2410c", outline: "#ffffff", arrow: "#0f172a", G: "#0d9488", D: "#7c3aed",
};
const DARK = {
  middle: [17, 24, 39], real: [37, 82, 160], fake: [150, 76, 22], edge: "#cbd5e1", ink: "#e2e8f0", soft: "#94a3b8",
  realPoint: "#93c5fd", fakePoint: "#fdba74", outline: "#0f172a", arrow: "#f8fafc", G: "#2dd4bf", D: "#c4b5fd",
};
const palette = () => (document.querySelector(".dark") ? DARK : LIGHT);
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

// Fits a canvas to its place, sharp on screens of any density; a context whose unit is a CSS pixel.
function ready(canvas, height) {
  const width = canvas.clientWidth, density = window.devicePixelRatio || 1, tall = height || width;
  const size = [Math.round(width * density), Math.round(tall * density)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const pen = canvas.getContext("2d");
  pen.setTransform(density, 0, 0, density, 0, 0);
  pen.clearRect(0, 0, width, tall);
  return [pen, width, tall];
}

// -1: surely fake, 1: surely real.
function tint(value, colors) {
  const end = value < 0 ? colors.fake : colors.real, share = Math.min(Math.abs(value), 1);
  return colors.middle.map((from, place) => from + share * (end[place] - from));
}

function paintField(pen, width, colors) {
  const side = view.side, pixels = new ImageData(side, side);
  patch.width = patch.height = side;
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++) {
      const place = 4 * ((side - 1 - row) * side + column);
      pixels.data.set([...tint(view.field[row * side + column] / 1000, colors), 255], place);
    }
  patch.getContext("2d").putImageData(pixels, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(patch, 0.5, 0.5, side - 1, side - 1, 0, 0, width, width);
}

// Where D is undecided: marching squares on its grid.
function paintBoundary(pen, width, colors) {
  const side = view.side, cell = width / (side - 1), at = (x, y) => view.field[y * side + x];
  pen.beginPath();
  for (let y = 0; y + 1 < side; y++)
    for (let x = 0; x + 1 < side; x++) {
      const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]], ends = [];
      corners.forEach((from, number) => {
        const to = corners[(number + 1) % 4], a = at(...from), b = at(...to);
        if (a > 0 === b > 0) return;
        const share = a / (a - b);
        ends.push([0, 1].map((axis) => (from[axis] + share * (to[axis] - from[axis])) * cell));
      });
      for (let pair = 0; pair + 1 < ends.length; pair += 2) {
        pen.moveTo(ends[pair][0], width - ends[pair][1]);
        pen.lineTo(ends[pair + 1][0], width - ends[pair + 1][1]);
      }
    }
  pen.strokeStyle = colors.edge;
  pen.lineWidth = 1;
  pen.setLineDash([4, 3]);
  pen.stroke();
  pen.setLineDash([]);
}

function paintTrails(pen, onto, colors) {
  pen.strokeStyle = colors.fakePoint;
  pen.lineWidth = 1;
  for (let age = 1; age < trail.length; age++) {
    pen.globalAlpha = (0.5 * age) / trail.length;
    pen.beginPath();
    for (let place = 0; place < view.fake.length; place += 2) {
      pen.moveTo(...onto(trail[age - 1], place));
      pen.lineTo(...onto(trail[age], place));
    }
    pen.stroke();
  }
  pen.globalAlpha = 1;
}

function dot(pen, x, y, size) { pen.moveTo(x + size, y); pen.arc(x, y, size, 0, 7); }
function triangle(pen, x, y, size) {
  pen.moveTo(x, y - 1.3 * size);
  pen.lineTo(x + 1.2 * size, y + 0.8 * size);
  pen.lineTo(x - 1.2 * size, y + 0.8 * size);
  pen.closePath();
}

function paintPoints(pen, points, onto, shape, size, color, outline) {
  pen.beginPath();
  for (let place = 0; place < points.length; place += 2) shape(pen, ...onto(points, place), size);
  pen.lineWidth = 1.6;
  pen.strokeStyle = outline;
  pen.stroke();
  pen.fillStyle = color;
  pen.fill();
}

// Long pushes are drawn shorter than they are, so that all stay on the page.
function paintArrows(pen, width, fakes, onto, colors) {
  pen.beginPath();
  for (let place = 0; place < fakes.length; place += 4) {
    const [dx, dy] = [view.push[place] / 1000, -view.push[place + 1] / 1000], size = Math.hypot(dx, dy);
    const long = (LONGEST_ARROW * width / 2) * (1 - Math.exp(-1.8 * size));
    if (long < 2) continue;
    const [x, y] = onto(fakes, place), [ux, uy] = [dx / size, dy / size], head = Math.min(5, long / 2);
    const [tx, ty] = [x + ux * long, y + uy * long];
    pen.moveTo(x, y);
    pen.lineTo(tx, ty);
    pen.lineTo(tx - head * (ux - 0.5 * uy), ty - head * (uy + 0.5 * ux));
    pen.moveTo(tx, ty);
    pen.lineTo(tx - head * (ux + 0.5 * uy), ty - head * (uy - 0.5 * ux));
  }
  pen.strokeStyle = colors.arrow;
  pen.globalAlpha = 0.75;
  pen.lineWidth = 1.1;
  pen.stroke();
  pen.globalAlpha = 1;
}

function paint(now) {
  asked = 0;
  if (!view || !field.clientWidth) return;
  const colors = palette(), [pen, width] = ready(field), share = Math.min((now - glideBegan) / GLIDE_MS, 1);
  const onto = (points, place) => [(points[place] / 1000 + 1) * width / 2, (1 - points[place + 1] / 1000) * width / 2];
  const glides = glideFrom && share < 1 && !calm.matches;
  const fakes = glides ? view.fake.map((to, place) => glideFrom[place] + share * (to - glideFrom[place])) : view.fake;
  paintField(pen, width, colors);
  paintBoundary(pen, width, colors);
  if (shown.trails) paintTrails(pen, onto, colors);
  const size = width < 420 ? 2.5 : 3.2;
  paintPoints(pen, view.real, onto, dot, size, colors.realPoint, colors.outline);
  paintPoints(pen, fakes, onto, triangle, size, colors.fakePoint, colors.outline);
  if (shown.arrows) paintArrows(pen, width, fakes, onto, colors);
  paintCurves(colors);
  if (glides) ask();
}
function ask() { asked = asked || requestAnimationFrame(paint); }

function paintCurves(colors) {
  const [pen, width, height] = ready(curves, 110), steps = view.losses.length, left = 40;
  const all = view.losses.flat().filter((value) => value !== null).sort((a, b) => a - b);
  if (steps < 2 || !all.length) return;
  const cut = Math.floor(all.length * 0.01);
  let [low, high] = [all[cut], all[all.length - 1 - cut]];
  const gap = Math.max((high - low) * 0.08, 1e-6);
  [low, high] = [low - gap, high + gap];
  const up = (value) => height - 4 - ((value - low) / (high - low)) * (height - 8);
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = pen.strokeStyle = colors.soft;
  pen.textAlign = "right";
  pen.fillText(short(high), left - 5, 13);
  pen.fillText(short(low), left - 5, height - 5);
  pen.globalAlpha = 0.35;
  pen.strokeRect(left, 2.5, width - left - 0.5, height - 5);
  pen.globalAlpha = 1;
  pen.save();
  pen.beginPath();
  pen.rect(left, 2, width - left, height - 4);
  pen.clip();
  ["G", "D"].forEach((player, place) => {
    pen.beginPath();
    view.losses.forEach((pair, number) => {
      if (pair[place] === null) return;
      pen.lineTo(left + (number / (steps - 1)) * (width - left), up(pair[place]));
    });
    pen.strokeStyle = colors[player];
    pen.lineWidth = 1.5;
    pen.stroke();
  });
  pen.restore();
}

const short = (value) => (Math.abs(value) >= 1000 ? value.toExponential(0) : Number(value.toPrecision(2)).toString());
const rgb = (color) => `rgb(${color.map(Math.round).join(",")})`;

function made(tag, name, text) {
  const found = document.createElement(tag);
  found.className = name;
  if (text !== undefined) found.textContent = text;
  return found;
}

function key(shape, color, text) {
  const entry = made("span", "plane-key"), mark = made("span", `plane-${shape}`);
  mark.style.setProperty("--mark", color);
  entry.append(mark, text);
  return entry;
}

function toggle(name, text) {
  const label = made("label", "plane-key"), box = made("input", "");
  box.type = "checkbox";
  box.name = `plane-${name}`;
  box.checked = shown[name];
  box.addEventListener("change", () => { shown[name] = box.checked; ask(); });
  label.append(box, text);
  return label;
}

function explain() {
  const colors = palette(), words = view.words, bar = made("span", "plane-bar");
  bar.style.background = `linear-gradient(90deg, ${[-1, 0, 1].map((value) => rgb(tint(value, colors))).join(",")})`;
  const scale = made("span", "plane-key plane-scale");
  scale.append(words.says, made("b", "", words.low), bar, made("b", "", words.high));
  legend.replaceChildren(
    key("dot", colors.realPoint, words.real), key("triangle", colors.fakePoint, words.fake),
    key("dash", colors.edge, words.boundary), toggle("arrows", words.arrows), toggle("trails", words.trails), scale,
  );
  const last = view.losses[view.losses.length - 1] || [null, null];
  const loss = (place) => (last[place] === null ? "" : " " + last[place].toFixed(3));
  lossWords.replaceChildren(key("line", colors.G, words.lossG + loss(0)), key("line", colors.D, words.lossD + loss(1)));
  said.textContent = view.said;
  field.setAttribute("aria-label", view.said);
  curves.setAttribute("aria-label", lossWords.textContent);
}

function take() {
  const next = props.value;
  if (!next || !next.fake) return;
  const goesOn = view && view.game === next.game;
  trail = goesOn ? trail : [];
  if (!goesOn || next.step !== view.step || next.moves !== view.moves) {
    trail = [...trail, next.fake].slice(-TRAIL);
    glideFrom = goesOn ? view.fake : null;
    glideBegan = performance.now();
  }
  view = next;
  if (!legend.contains(document.activeElement)) explain();
  else said.textContent = view.said;
  element.dataset.step = view.step;
  ask();
}

watch("value", take);
new ResizeObserver(ask).observe(element);
new MutationObserver(() => { if (view) { explain(); ask(); } }).observe(document.body, { attributeFilter: ["class"] });
// A game begins when somebody looks, and rests when nobody does.
let looked = false;
new IntersectionObserver((entries) => {
  const isHere = entries[entries.length - 1].isIntersecting;
  if (isHere && !looked) trigger("arrived");
  if (!isHere && looked && element.offsetParent === null) trigger("left");
  looked = looked || isHere;
  if (isHere) ask();
}).observe(element);
document.addEventListener("visibilitychange", () => { if (document.hidden && looked) trigger("left"); });
take();
