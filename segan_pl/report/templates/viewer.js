// Slices are drawn from one picture of all of them a modality; masks are the bits of another's colours (report/viewer.py).
for (const viewer of document.querySelectorAll('.viewer')) {
  const stills = [...viewer.querySelectorAll('figure[data-volume]')];
  const panel = viewer.querySelector('.panel');
  const pick = name => panel.querySelector(`[name=${name}]`);
  const views = [...panel.querySelectorAll('.view')].map((element, axis) => ({
    axis, canvas: element.querySelector('canvas'), slider: element.querySelector('input'), said: element.querySelector('output'),
  }));
  const colour = { reference: '#ffd400', prediction: '#00d5ff', both: [32, 201, 151], extra: [255, 127, 14], lacking: [224, 72, 255] };
  let volume, image, masks, turn = 0;
  document.documentElement.classList.add('scripted');
  panel.hidden = false;

  // The voxels of a picture of slices, the first `channels` colours of each.
  const voxels = async (source, channels) => {
    const picture = new Image();
    await new Promise((done, failed) => Object.assign(picture, { onload: done, onerror: failed, src: source }));
    const sheet = new OffscreenCanvas(picture.width, picture.height).getContext('2d', { willReadFrequently: true });
    sheet.drawImage(picture, 0, 0);
    const [depth, height, width] = volume.size;
    const out = Array.from({ length: channels }, () => new Uint8Array(depth * height * width));
    for (let z = 0; z < depth; z++) {
      const left = (z % volume.columns) * width, top = Math.floor(z / volume.columns) * height;
      const { data } = sheet.getImageData(left, top, width, height);
      out.forEach((plane, channel) => {
        for (let at = 0; at < height * width; at++) plane[z * height * width + at] = data[4 * at + channel];
      });
    }
    return out;
  };

  // Rows and columns of a slice, the voxel at each, and the sides of a voxel there.
  const slice = (axis, at) => {
    const [depth, height, width] = volume.size, [dz, dy, dx] = volume.spacing, area = height * width;
    if (axis === 0) return { rows: height, columns: width, tall: dy, wide: dx, place: (r, c) => at * area + r * width + c };
    const up = r => depth - 1 - r; // the head's top is at the top
    if (axis === 1) return { rows: depth, columns: width, tall: dz, wide: dx, place: (r, c) => up(r) * area + at * width + c };
    return { rows: depth, columns: height, tall: dz, wide: dy, place: (r, c) => up(r) * area + c * width + at };
  };

  const outline = (context, cut, scale, inside, style, width) => {
    context.beginPath();
    const [wide, tall] = scale;
    for (let r = 0; r < cut.rows; r++) {
      for (let c = 0; c < cut.columns; c++) {
        if (!inside(r, c)) continue;
        const x = c * wide, y = r * tall;
        if (r === 0 || !inside(r - 1, c)) { context.moveTo(x, y); context.lineTo(x + wide, y); }
        if (r === cut.rows - 1 || !inside(r + 1, c)) { context.moveTo(x, y + tall); context.lineTo(x + wide, y + tall); }
        if (c === 0 || !inside(r, c - 1)) { context.moveTo(x, y); context.lineTo(x, y + tall); }
        if (c === cut.columns - 1 || !inside(r, c + 1)) { context.moveTo(x + wide, y); context.lineTo(x + wide, y + tall); }
      }
    }
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  };

  const draw = () => {
    const bit = 1 << Number(pick('region').value), shown = pick('shown').value;
    if (!masks) return; // what is chosen is still being decoded
    const [reference, prediction, ignored] = masks;
    for (const { axis, canvas, slider, said } of views) {
      const cut = slice(axis, Number(slider.value));
      const enlarged = 480 / Math.max(cut.rows * cut.tall, cut.columns * cut.wide);
      const scale = [cut.wide * enlarged, cut.tall * enlarged];
      canvas.width = Math.round(cut.columns * scale[0]);
      canvas.height = Math.round(cut.rows * scale[1]);
      const context = canvas.getContext('2d');
      const pixels = new ImageData(cut.columns, cut.rows);
      for (let r = 0; r < cut.rows; r++) {
        for (let c = 0; c < cut.columns; c++) {
          const at = cut.place(r, c), to = 4 * (r * cut.columns + c);
          const true_ = reference[at] & bit, found = prediction[at] & bit;
          let tint = null;
          if (shown === 'errors' && (true_ || found)) tint = true_ && found ? colour.both : found ? colour.extra : colour.lacking;
          else if (ignored[at]) tint = [128, 178, 255];
          for (let k = 0; k < 3; k++) pixels.data[to + k] = tint ? 0.45 * image[at] + 0.55 * tint[k] : image[at];
          pixels.data[to + 3] = 255;
        }
      }
      const small = new OffscreenCanvas(cut.columns, cut.rows);
      small.getContext('2d').putImageData(pixels, 0, 0);
      context.imageSmoothingEnabled = shown !== 'errors';
      context.drawImage(small, 0, 0, canvas.width, canvas.height);
      if (shown === 'outlines') {
        outline(context, cut, scale, (r, c) => reference[cut.place(r, c)] & bit, colour.reference, 3);
        outline(context, cut, scale, (r, c) => prediction[cut.place(r, c)] & bit, colour.prediction, 1.5);
      }
      // as in captions and tables, not from the edge of what is shown
      const from = volume.corner[axis] + slider.value * volume.step[axis], to = from + volume.step[axis] - 1;
      said.textContent = `slice ${to > from ? `${from} to ${to}` : from}`;
      canvas.setAttribute('aria-label', `${volume.case}, ${canvas.dataset.name} ${said.textContent}`);
    }
    const run = volume.runs[pick('run').value], region = volume.regions[pick('region').value];
    panel.querySelector('.about').textContent =
      `${volume.case}${volume.runs.length > 1 ? `, ${run.name}` : ''}: ${region}, Dice ${run.dice[pick('region').value]}${run.judged}`;
    for (const key of panel.querySelectorAll('[data-key]')) key.hidden = key.dataset.key !== shown;
  };

  // Decode what the choices ask for; a later choice overtakes an earlier one that is still being decoded.
  const load = async () => {
    const mine = ++turn, run = volume.runs[pick('run').value];
    image = masks = null; // of another choice: not to be drawn under this one's name
    const [[grey], planes] = await Promise.all([voxels(volume.images[pick('modality').value], 1), voxels(run.masks, 3)]);
    if (mine !== turn) return;
    [image, masks] = [grey, planes];
    draw();
  };

  const fill = (name, texts) => {
    const select = pick(name), before = select.selectedOptions[0]?.textContent;
    select.replaceChildren(...texts.map(([value, text]) => new Option(text, value, false, text === before)));
    select.closest('label').hidden = texts.length < 2;
  };

  const open = (number, at, region, run) => {
    volume = JSON.parse(stills[number].dataset.volume);
    pick('case').value = number;
    fill('modality', Object.keys(volume.images).map(name => [name, name]));
    fill('region', volume.regions.map((name, place) => [place, name]));
    fill('run', volume.runs.map(({ name }, place) => [place, name]));
    const place = volume.regions.findIndex(name => name === region || name.endsWith(`(${region})`));
    if (place >= 0) pick('region').value = place;
    const chosen = volume.runs.findIndex(({ name }) => name === run);
    if (chosen >= 0) pick('run').value = chosen;
    views.forEach(({ axis, slider }) => {
      slider.max = volume.size[axis] - 1;
      slider.value = (at ?? volume.start)[axis];
    });
    return load();
  };

  fill('case', stills.map((still, number) => [number, still.dataset.case]));
  pick('case').addEventListener('change', () => open(Number(pick('case').value)));
  for (const name of ['modality', 'run']) pick(name).addEventListener('change', load);
  for (const name of ['region', 'shown']) pick(name).addEventListener('change', draw);
  for (const { axis, canvas, slider } of views) {
    slider.addEventListener('input', draw);
    // A click, or a touch, moves the other two to the voxel under it.
    canvas.addEventListener('click', event => {
      const cut = slice(axis, 0), box = canvas.getBoundingClientRect();
      const r = Math.floor((event.clientY - box.top) / box.height * cut.rows);
      const c = Math.floor((event.clientX - box.left) / box.width * cut.columns);
      const up = volume.size[0] - 1 - r;
      const to = [[null, r, c], [up, null, c], [up, c, null]][axis];
      views.forEach((view, other) => { if (to[other] !== null) view.slider.value = to[other]; });
      draw();
    });
  }
  for (const link of document.querySelectorAll('a[data-opens]')) {
    const number = stills.findIndex(still => still.id === link.dataset.opens);
    const show = event => {
      event.preventDefault();
      open(number, link.dataset.at?.split(',').map(Number), link.dataset.region, link.dataset.run);
      panel.scrollIntoView({ block: 'start' });
      pick('case').focus({ preventScroll: true });
    };
    link.addEventListener('click', show);
    link.closest('tr').classList.add('opens');
    link.closest('tr').addEventListener('click', event => { if (!event.target.closest('a')) show(event); });
  }
  open(0);
}
