// Label placement: each bubble's name at the nearest free place. Boxes are [x0, y0, x1, y1].
import { make, textWidth } from "./elements.js";

const NAMED = 60; // beyond the front, so many bubbles are named
const SIDES = [
  [1, 0],
  [-1, 0],
  [1, -1],
  [1, 1],
  [-1, -1],
  [-1, 1],
  [0, -1],
  [0, 1],
]; // right, left, corners, above, below

/** Label the front first, then the other points; a label without a free place only shows on hover. */
export function nameBubbles(svg, box, points, front, corners) {
  const taken = marks(points, corners);
  const rest = [...points].sort((p, q) => q.y[0] - p.y[0]).slice(0, NAMED);
  for (const p of new Set([...front, ...rest])) {
    const place = freePlace(p, textWidth(p.model) + 4, taken, [0, box.top - 8, box.right + 8, box.bottom]);
    if (!place) continue;
    make("text", { class: "name", x: place[0] + 2, y: place[3] - 4 }, svg, p.model);
    taken.push(place);
  }
}

/** The boxes of bubbles, of their intervals, and of the front. */
function marks(points, corners) {
  const upright = ({ at, bars: [, [low, high]] }) => [at[0] - 1, Math.min(low, high), at[0] + 1, Math.max(low, high)];
  const level = ({ at, bars: [[low, high]] }) => [Math.min(low, high), at[1] - 1, Math.max(low, high), at[1] + 1];
  const bubble = ({ at, radius: r }) => [at[0] - r, at[1] - r, at[0] + r, at[1] + r];
  const steps = corners.slice(1).map(([x1, y1], i) => {
    const [x0, y0] = corners[i];
    return [Math.min(x0, x1), Math.min(y0, y1) - 1, Math.max(x0, x1), Math.max(y0, y1) + 1];
  });
  return [...[bubble, upright, level].flatMap((box) => points.map(box)), ...steps];
}

function freePlace({ at, radius }, width, taken, within) {
  const [w, h] = [width / 2, 8];
  for (const gap of [5, 13]) {
    for (const [dx, dy] of SIDES) {
      const reach = radius * (dx && dy ? 0.7 : 1) + gap; // towards a corner the circle gives way
      const [x, y] = [at[0] + dx * (reach + w), at[1] + dy * (reach + h)];
      const [x0, y0, x1, y1] = [x - w, y - h, x + w, y + h];
      const inside = x0 >= within[0] && y0 >= within[1] && x1 <= within[2] && y1 <= within[3];
      if (inside && !taken.some((t) => t[0] < x1 && t[2] > x0 && t[1] < y1 && t[3] > y0)) return [x0, y0, x1, y1];
    }
  }
  return null;
}
