"""The page's script in a browser: where a click goes, and what is drawn while a case is decoded."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.report.test_viewer import evaluation, page_of

__all__ = ["evaluation"]
CHROMIUM = shutil.which("chromium")
SCRIPT = """<script>
addEventListener('load', async () => {
  const wait = ms => new Promise(done => setTimeout(done, ms));
  await wait(1000);
  const viewer = document.querySelector('.viewer'), about = viewer.querySelector('.about');
  const sliders = [...viewer.querySelectorAll('input[type=range]')], canvas = viewer.querySelector('canvas');
  const [, height, width] = JSON.parse(viewer.querySelector('[data-volume]').dataset.volume).size;
  const box = canvas.getBoundingClientRect(), drawn = Math.min(box.width / canvas.width, box.height / canvas.height);
  // where the picture is within its element, however the style places it there
  const left = box.left + (box.width - canvas.width * drawn) / 2;
  const top = box.top + (box.height - canvas.height * drawn) / 2;
  const at = (place, side, pixels) => (place + 0.5) * pixels * drawn / side;
  const clientX = left + at(5, width, canvas.width), clientY = top + at(6, height, canvas.height);
  canvas.dispatchEvent(new MouseEvent('click', { clientX, clientY }));
  const said = [sliders[1].value, sliders[2].value, viewer.querySelector('output').textContent];
  const choice = viewer.querySelector('[name=case]');
  choice.value = 1;
  choice.dispatchEvent(new Event('change'));
  sliders[0].dispatchEvent(new Event('input'));
  said.push(about.textContent.split(':')[0]);
  await wait(1000);
  said.push(about.textContent.split(':')[0]);
  document.title = said.join(' | ');
});
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to run the page's script")
@pytest.mark.parametrize("width", [590, 900, 1200])
def test_a_click_goes_to_the_voxel_under_it_and_no_case_is_drawn_under_anothers_name(
    evaluation: Path,
    tmp_path: Path,
    width: int,
) -> None:
    page_of([str(evaluation)], tmp_path)
    file = tmp_path / "page.html"
    file.write_text(file.read_text("utf-8").replace("</body>", SCRIPT), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    window = [f"--window-size={width},900", "--virtual-time-budget=6000", "--dump-dom", file.as_uri()]
    done = subprocess.run([str(CHROMIUM), *options, *window], capture_output=True, text=True, timeout=120, check=True)
    found = re.search("<title>(.*?)</title>", done.stdout)
    assert found
    y, x, number, during, after = found[1].split(" | ")
    assert (y, x) == ("6", "5")
    assert re.fullmatch(r"slice \d+", number)
    assert during != after  # the name changes with the picture
