// The Pareto front of the visible points: it follows the reader's axes, filter and legend.
// Same rule as `pareto` in `_stats.py`; a test compares the two.

const DRAWS = 200; // of all points within their intervals, for the share in which one is on the front
const SHARED = 300; // beyond so many points no shares: they would take seconds

const cost = (axis, value) => (axis.better === "higher" ? -value : value);

/** The non-dominated points, from the best x on, compared by the [x, y] that `ends` returns for each. */
export function pareto(points, xAxis, yAxis, ends = (p) => [p.x[0], p.y[0]]) {
  const placed = points.map((p) => {
    const [x, y] = ends(p);
    return { p, ends: [x, y], costs: [cost(xAxis, x), cost(yAxis, y)] };
  });
  placed.sort((p, q) => p.costs[0] - q.costs[0] || p.costs[1] - q.costs[1]);
  const front = [];
  for (const next of placed) {
    const last = front.at(-1);
    if (!last || next.costs[1] < last.costs[1] || agree(next, last)) front.push(next);
  }
  return front;
}

const agree = (a, b) => a.ends[0] === b.ends[0] && a.ends[1] === b.ends[1];

/** The front without duplicates: thousands of cases may have the same two values. */
export function apart(front) {
  return front.filter((next, i) => !i || !agree(next, front[i - 1]));
}

/** The better, or the worse, end of an interval. */
export function endOf(axis, [value, low, high], better) {
  return ((axis.better === "higher") === better ? high : low) ?? value;
}

/** The step line through the points of a front. */
export function stairs(places, edge) {
  return places.flatMap((at, i) => [at, [i + 1 < places.length ? places[i + 1][0] : edge, at[1]]]);
}

/** Return for each point how often it is on the front when all points are drawn from their intervals (normal, 95 %). */
export function addShares(points, xAxis, yAxis) {
  if (points.length > SHARED) return;
  let state = 1; // a fixed seed: the same page says the same
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 || 1e-9;
  };
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const drawn = ([value, low, high]) =>
    low === null || high === null ? value : value + (normal() * (high - low)) / 3.92;
  for (const p of points) p.share = 0;
  for (let i = 0; i < DRAWS; i++) {
    for (const { p } of pareto(points, xAxis, yAxis, (q) => [drawn(q.x), drawn(q.y)])) p.share += 1 / DRAWS;
  }
}
