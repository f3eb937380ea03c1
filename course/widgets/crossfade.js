// data: {label, columns: captions, frames: [{name, pictures: a URL for each column}], sizes: [px for each column],
// step: 1 where the frames do not blend}
const draw = (root, data) => {
  root.replaceChildren();
  const row = make("div", { style: "display:flex;flex-wrap:wrap;gap:12px;align-items:flex-end" });
  root.append(row);
  const stacks = data.columns.map((caption, column) => {
    const size = data.sizes[column];
    const layers = data.frames.map((frame) => make("img", { src: frame.pictures[column],
      alt: `${frame.name}: ${caption}`, width: size, height: size,
      style: "position:absolute;left:0;top:0;margin:0;image-rendering:pixelated" }));
    const box = make("div", { style: `position:relative;width:${size}px;height:${size}px` }, ...layers);
    row.append(make("div", {}, box, make("div", { style: "text-align:center" }, caption)));
    return layers;
  });
  const last = data.frames.length - 1;
  slider(root, data.label, { min: 0, max: last, step: data.step ?? 0.02, value: 0 }, (value) => {
    const below = Math.min(Math.floor(value), last - 1), share = value - below;
    for (const layers of stacks) {
      layers.forEach((layer, i) => { layer.style.opacity = i === below ? 1 : i === below + 1 ? share : 0; });
    }
    const percent = Math.round(100 * share), [from, to] = [data.frames[below].name, data.frames[below + 1].name];
    return percent === 0 ? from : percent === 100 ? to : `${100 - percent} % ${from}, ${percent} % ${to}`;
  });
};
