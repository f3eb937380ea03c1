// What the figures that move share. Each defines draw(root, data).

// An element with attributes and children, texts among them.
const make = (tag, attributes, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.dataset.lmSuppressShortcuts = ""; // else JupyterLab takes the keys of a slider
  made.append(...children);
  return made;
};

// A slider with its label and a line that `change(value)` returns; it is called once at the start.
const slider = (root, label, attributes, change) => {
  const input = make("input", { type: "range", style: "flex:1;min-width:120px", "aria-label": label, ...attributes });
  const says = make("p", { "aria-live": "polite", style: "margin:4px 0;font-variant-numeric:tabular-nums" });
  const update = () => { says.textContent = change(Number(input.value)); };
  input.addEventListener("input", update);
  root.append(make("label", { style: "display:flex;gap:12px;align-items:center" }, label, input), says);
  update();
};

// A white drawing area of width x height, as wide as there is room.
const canvas = (root, width, height, label) => {
  const made = make("canvas", { width: 2 * width, height: 2 * height, role: "img", "aria-label": label,
    style: `display:block;width:100%;max-width:${width}px;background:#fff` });
  root.append(made);
  const pen = made.getContext("2d");
  pen.scale(2, 2); // sharp on screens with two pixels to a point
  return pen;
};
