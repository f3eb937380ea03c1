// data: {highest: periods per sample at the slider's end, start: where it begins}
const draw = (root, data) => {
  const width = 720, height = 220, count = 13, gap = width / count;
  root.replaceChildren();
  const pen = canvas(root, width, height, "A wave, its samples, and the slowest wave through the samples");
  const at = (x, value) => [(x + 0.5) * gap, height / 2 - 80 * value];
  const line = (frequency, color, thick) => {
    pen.beginPath();
    for (let x = -0.5; x <= count; x += 0.01) pen.lineTo(...at(x, Math.cos(2 * Math.PI * frequency * x)));
    Object.assign(pen, { strokeStyle: color, lineWidth: thick });
    pen.stroke();
  };
  slider(root, "frequency", { min: 0, max: data.highest, step: 0.01, value: data.start }, (true_) => {
    const drawn = Math.abs(true_ - Math.round(true_));
    pen.clearRect(0, 0, width, height);
    line(true_, "#b0b0b0", 1.5);
    line(drawn, "#0072B2", 2.5);
    for (let x = 0; x < count; x++) {
      pen.beginPath();
      pen.arc(...at(x, Math.cos(2 * Math.PI * true_ * x)), 5, 0, 7);
      pen.fillStyle = "#D55E00";
      pen.fill();
    }
    const verdict = Math.abs(drawn - true_) < 1e-9 ? "the wave itself" : "an alias";
    return `true wave (gray): ${true_.toFixed(2)} periods per sample; ` +
      `drawn through the samples (blue): ${drawn.toFixed(2)}, ${verdict}`;
  });
};
