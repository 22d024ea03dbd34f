for (const table of document.querySelectorAll('table.sorts')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') === 'ascending';
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => {
      const x = value(a), y = value(b);
      if (x === '' || y === '') return (x === '') - (y === '');
      const both = x - y;
      const way = Number.isNaN(both) ? x.localeCompare(y) : both;
      return down ? -way : way;
    };
    [...body.rows].sort(order).forEach(row => body.append(row));
  }));
  const search = document.getElementById(table.dataset.search);
  const shown = document.getElementById(table.dataset.search + '-count');
  search.addEventListener('input', () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${body.rows.length} rows`;
  });
}
