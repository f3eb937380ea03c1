// data: {scale, side: pixels of a channel along one axis, colors: one for each channel}
const draw = (root, data) => {
  const { scale, side, colors } = data, cell = 16, gap = 14, size = scale * side * cell + (scale - 1) * gap;
  root.replaceChildren();
  const pen = canvas(root, size, size, "Sixteen channels of one colour each that move together into one picture");
  Object.assign(pen, { font: "9px sans-serif", textAlign: "center", textBaseline: "middle" });
  slider(root, "shuffle", { min: 0, max: 1, step: 0.01, value: 0 }, (moved) => {
    pen.clearRect(0, 0, size, size);
    const place = (phase, at) => {
      const apart = phase * (side * cell + gap) + at * cell; // its channel, as a picture of its own
      return apart + moved * ((at * scale + phase) * cell + (scale - 1) * gap / 2 - apart);
    };
    for (let channel = 0; channel < scale * scale; channel++) {
      const row = Math.floor(channel / scale), column = channel % scale;
      for (let i = 0; i < side; i++) {
        for (let j = 0; j < side; j++) {
          const x = place(column, j), y = place(row, i);
          pen.fillStyle = colors[channel];
          pen.fillRect(x, y, cell - 1, cell - 1);
          pen.fillStyle = "#000";
          pen.fillText(channel, x + cell / 2, y + cell / 2);
        }
      }
    }
    return moved === 0 ? `${scale * scale} channels of ${side} x ${side}`
      : moved === 1 ? `one channel of ${scale * side} x ${scale * side}` : "each number moves, none changes";
  });
};
