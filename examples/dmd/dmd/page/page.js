"use strict";
// Draws the charts of the page, follows the reader's light or dark, and plays the graphs over the epochs.

const PALETTES = {
  // Light: gdkit.plot.COLORS, letter for letter; in the dark each lighter, so that all stand out and stay apart.
  light: {
    "@0": "#0072b2", "@1": "#d55e00", "@2": "#009e73", "@3": "#cc79a7", "@4": "#e69f00", "@5": "#56b4e9",
    "@6": "#000000", "@7": "#882255", "@none": "#c8c8c8",
    "@ink": "#1f2430", "@muted": "#8a90a0", "@grid": "#e4e7ee", "@surface": "#ffffff",
    "@heat": [[0, "#f3f6fb"], [0.25, "#b9d3ea"], [0.5, "#6fa8d3"], [0.75, "#2274ae"], [1, "#08335c"]],
    "@values": [[0, "#440154"], [0.25, "#3b528b"], [0.5, "#21918c"], [0.75, "#5ec962"], [1, "#e8d81c"]],
    "@blues": [[0, "#f7f9fc"], [0.5, "#8dbbe0"], [1, "#0b5c97"]],
  },
  dark: {
    "@0": "#3f9fe0", "@1": "#f07f3a", "@2": "#1fbf92", "@3": "#e09cc4", "@4": "#f2b544", "@5": "#8fd0f7",
    "@6": "#f2f2f2", "@7": "#7847eb", "@none": "#5b6270",
    "@ink": "#e7eaf0", "@muted": "#8b93a5", "@grid": "#2c3340", "@surface": "#1a1f29",
    "@heat": [[0, "#1d2532"], [0.25, "#1f4468"], [0.5, "#2a73ad"], [0.75, "#66ace0"], [1, "#dceefb"]],
    "@values": [[0, "#8a4fb0"], [0.25, "#5a7fd0"], [0.5, "#21918c"], [0.75, "#5ec962"], [1, "#fde725"]],
    "@blues": [[0, "#1d2430"], [0.5, "#25567f"], [1, "#5db0ee"]],
  },
};
// Of plotly's buttons the two that stay on this machine: another one would upload the chart.
const CONFIG = {
  responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
  modeBarButtons: [["toImage", "resetScale2d"]],
};
const FRAME = 350; // milliseconds of an epoch while it plays; a long run plays faster
const LONGEST = 12000; // milliseconds of the whole

const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const palette = () => PALETTES[dark.matches ? "dark" : "light"];

// A copy whose colours are those of the palette; only properties that hold colours are looked at.
function painted(value, key = "") {
  if (Array.isArray(value)) return value.map((each) => painted(each, key));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, painted(each, name)]));
  }
  return typeof value === "string" && value[0] === "@" && /color(scale)?$/.test(key) ? palette()[value] : value;
}

function template() {
  const colors = palette();
  const axis = {
    gridcolor: colors["@grid"], linecolor: colors["@muted"], zerolinecolor: colors["@grid"],
    tickcolor: colors["@muted"], automargin: true, title: {font: {size: 13}, standoff: 8},
  };
  return {
    layout: {
      font: {family: "system-ui, sans-serif", size: 12, color: colors["@ink"]},
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
      margin: {l: 48, r: 12, t: 12, b: 44},
      legend: {orientation: "h", x: 0, y: -0.24, yref: "paper", yanchor: "top", font: {size: 12}},
      legend2: {orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: {size: 12}},
      hoverlabel: {bgcolor: colors["@surface"], bordercolor: colors["@muted"], font: {color: colors["@ink"], size: 13},
        align: "left"},
    },
  };
}

function layoutOf(chart) {
  const layout = {template: template(), autosize: true, ...painted(chart.layout)};
  // A finger scrolls the page; it does not zoom into a chart on its way.
  if (narrow.matches || matchMedia("(pointer: coarse)").matches) layout.dragmode = false;
  return layout;
}

function draw(place, chart) {
  const config = {...CONFIG, displayModeBar: place.classList.contains("links") ? false : "hover"};
  return Plotly.react(place, painted(chart.data), layoutOf(chart), config);
}

// One slider moves every graph and matrix of its section.
function play(section, charts) {
  const slider = section.querySelector("input[type=range]");
  const button = section.querySelector(".player button");
  const said = section.querySelector("output");
  if (!slider) return () => {};
  const places = [...section.querySelectorAll(".chart")].filter((place) => charts[place.id].frames);
  const epochs = charts[places[0].id].frames.epochs;
  let timer = null;

  function show(position) {
    slider.value = position;
    const text = `epoch ${epochs[position]}`;
    said.textContent = text + (Number(slider.dataset.best) === epochs[position] ? " (kept)" : "");
    slider.setAttribute("aria-valuetext", text);
    for (const place of places) {
      const {frames, data} = charts[place.id];
      const at = Math.min(position, frames.epochs.length - 1);
      if (frames.widths) {
        const edges = frames.widths[at].length;
        frames.widths[at].forEach((width, edge) => { data[edge].line.width = width; });
        data[edges].marker.size = frames.heads[at];
        data[edges + 1].text = frames.texts[at];
      } else {
        data[0].z = frames.z[at];
      }
      draw(place, charts[place.id]);
    }
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    const last = epochs.length - 1;
    if (Number(slider.value) === last) show(0);
    button.textContent = "Pause";
    timer = setInterval(() => {
      const next = Number(slider.value) + 1;
      if (next <= last) show(next);
      if (next >= last) stop();
    }, Math.min(FRAME, LONGEST / epochs.length));
  });
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  show(Number(slider.value));
}

async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

async function start() {
  const charts = JSON.parse(document.getElementById("figures").textContent);
  const places = [...document.querySelectorAll(".chart")];
  try {
    await unpack("library");
  } catch (error) {
    document.body.classList.add("failed"); // a browser from before 2023
    throw error;
  }
  for (const place of places) {
    await draw(place, charts[place.id]);
    place.classList.add("drawn");
    await new Promise((resume) => setTimeout(resume)); // one chart after the other appears, and the page scrolls
  }
  document.querySelectorAll(".playable").forEach((section) => play(section, charts));
  const again = () => places.forEach((place) => draw(place, charts[place.id]));
  dark.addEventListener("change", again);
  narrow.addEventListener("change", again);
  // Hidden charts have no size; those of a part that opens are drawn anew.
  document.querySelectorAll("details").forEach((part) => part.addEventListener("toggle", () => {
    part.querySelectorAll(".chart").forEach((place) => Plotly.Plots.resize(place));
  }));
  document.body.classList.add("ready");
}

start();
