// data: {taps: [of the first phase, of the second], flat: the value of the even row, slope: the step of the other,
// colors: one for each phase}; the sliders move the second phase's taps
const draw = (root, data) => {
  root.replaceChildren();
  const taps = data.taps.map((row) => [...row]);
  const pen = canvas(root, 600, 190, "Bars of the row that comes out of an even row, and of that from a slope");
  Object.assign(pen, { font: "11px sans-serif", textAlign: "center" });
  const verdict = make("p", { "aria-live": "polite", style: "margin:4px 0" });
  const places = [0, 1, 2, 3, 4, 5], rows = [places.map(() => data.flat), places.map((i) => i * data.slope)];
  const enlarged = (row) => row.slice(2).flatMap((_, i) =>
    taps.map((phase) => phase.reduce((sum, tap, j) => sum + tap * row[i + j], 0)));
  const equal = (values) => Math.max(...values) - Math.min(...values) < 1e-6;
  const show = () => {
    const [flat, slope] = rows.map(enlarged), steps = slope.slice(1).map((value, i) => value - slope[i]);
    pen.clearRect(0, 0, 600, 190);
    [flat, slope].forEach((values, side) => values.forEach((value, i) => {
      const x = 310 * side + 36 * i, height = Math.max(value, 0);
      pen.fillStyle = data.colors[i % 2];
      pen.fillRect(x, 180 - height, 32, height);
      pen.fillStyle = "#000";
      pen.fillText(value.toFixed(0), x + 16, 176 - height);
    }));
    const sums = taps.map((phase) => phase.reduce((sum, tap) => sum + tap, 0).toFixed(1));
    verdict.textContent = `Sums ${sums.join(" and ")}: the even row ${equal(flat) ? "stays even" : "gets a grid"}, `
      + `the slope rises in ${equal(steps) ? "even" : "uneven"} steps.`;
  };
  ["left", "middle", "right"].forEach((name, tap) => {
    slider(root, `${name} tap`, { min: -0.2, max: 1, step: 0.1, value: taps[1][tap] }, (value) => {
      taps[1][tap] = value;
      show();
      return value.toFixed(1);
    });
  });
  root.append(verdict);
};
