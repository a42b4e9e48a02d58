// A notebook has this script once a reply: each takes the canvases that none before it has drawn.
(() => {
  "use strict";

  // Six bytes a point: x, y, z in [-1, 1] as 0..255, then red, green, blue.
  function decode(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const points = [];
    for (let at = 0; at + 5 < bytes.length; at += 6) {
      const [x, y, z] = [0, 1, 2].map((axis) => bytes[at + axis] / 127.5 - 1);
      points.push({ x, y, z, colour: `rgb(${bytes[at + 3]} ${bytes[at + 4]} ${bytes[at + 5]})` });
    }
    return points;
  }

  function draw(canvas, points, angle) {
    const pen = canvas.getContext("2d");
    const [sine, cosine, half] = [Math.sin(angle), Math.cos(angle), canvas.width / 2];
    const turned = points.map(({ x, y, z, colour }) => ({ x: x * cosine + z * sine, y, z: z * cosine - x * sine, colour }));
    turned.sort((one, other) => one.z - other.z); // the nearest is drawn last
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (const { x, y, z, colour } of turned) {
      const near = 3 / (3.2 - z);
      pen.globalAlpha = 0.55 + 0.45 * (z + 1) / 2;
      pen.fillStyle = colour;
      pen.beginPath();
      pen.arc(half + x * near * half * 0.85, half - y * near * half * 0.85, 3.2 * near, 0, 2 * Math.PI);
      pen.fill();
    }
  }

  const visible = new Set();
  const clouds = new Map();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) visible.add(target);
      else visible.delete(target);
    }
  });

  for (const canvas of document.querySelectorAll("canvas[data-points]:not([data-drawn])")) {
    canvas.dataset.drawn = "";
    clouds.set(canvas, decode(canvas.dataset.points));
    draw(canvas, clouds.get(canvas), 0);
    watcher.observe(canvas);
  }

  function turn(time) {
    for (const canvas of visible) draw(canvas, clouds.get(canvas), time / 1500);
    requestAnimationFrame(turn);
  }
  if (!still && clouds.size) requestAnimationFrame(turn);
})();
